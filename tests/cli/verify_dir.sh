mkmodel base/ --llama 1,8,16
wsurg merge base base --method linear -q -o out
echo more >out/extra.txt
echo x >out/config.json
rm out/tokenizer.json
wsurg verify out; echo $?
