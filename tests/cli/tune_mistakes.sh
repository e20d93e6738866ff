# What fine-tuning refuses, and that it does so before it starts.
cp -r "$CASES/../../examples/models/base" llm
printf '{"prompt":"sum: 1+1 =","completion":" 2\\n"}\n' >sums.jsonl
no() {
    wsurg tune "$@" --progress none
    echo "$? $*"
}
no llm --data sums.jsonl
no llm --full --lora
no --full --data sums.jsonl
no llm --full --data sums.jsonl --layers 3-1 --betas 1,2 --warmup -1 --max-time soon
no llm --full --data sums.jsonl --data-weights 1,2
no llm --lora --data sums.jsonl --mask m.safetensors
no llm --full --data sums.jsonl --rslora
no llm --full --data sums.jsonl --layers 0-9
no llm --full --data sums.jsonl --freeze nothing
no llm --full --data sums.jsonl --freeze .
no llm --lora --data sums.jsonl --target nothing
no llm --lora --data sums.jsonl --rank 97
no llm --full --data sums.jsonl --seq 1000
no llm --full --data sums.jsonl --loss dpo
no llm --full --data nowhere.jsonl
no llm --full --data sums.jsonl --max-memory 4MiB
no llm --full --data sums.jsonl --lr 1e6 --optimizer sgd --clip 0 --steps 9 --batch 1
no --from-scratch llm/tokenizer.json --data sums.jsonl
mkdir tuned
no llm --full --data sums.jsonl
ls -A
