mkmodel base/ --llama 1,8,16
wsurg manifest base >manifest.txt && mv manifest.txt base/manifest.json
wsurg verify base; echo $?
(cd base && wsurg manifest . --sha256sums >../sums.txt && sha256sum --check ../sums.txt)
# A model-signing statement: order of path components, digest as the reference computes it.
mkdir -p m/a; echo 1 >m/a/b; echo 2 >m/a-b; echo 3 >m/a.b; echo 4 >m/model.bin; echo x >m/.gitignore
wsurg manifest m --oms >m.oms.json; grep -E '"(name|sha256|allow_symlinks)"' m.oms.json
wsurg manifest m/model.bin --oms >one.json; grep -E '"(name|sha256)"' one.json
wsurg verify m --oms m.oms.json; echo $?
wsurg verify m/model.bin --oms one.json | tail -n 1
cp m.oms.json m/model.sig; wsurg verify m --oms m/model.sig | tail -n 1
{ printf '{"dsseEnvelope": {"payload": "'; base64 -w0 <m.oms.json; printf '"}}'; } >bundle.json
wsurg verify m --oms bundle.json | tail -n 1
echo 5 >m/model.bin; rm m/a.b; echo new >m/new; wsurg verify m --oms m.oms.json 2>&1; echo $?
sed 's/"sha256": "0/"sha256": "1/' m.oms.json >bad.json; wsurg verify m --oms bad.json 2>&1; echo $?
sed 's|"a/b"|"../b"|' m.oms.json >bad.json; wsurg verify m --oms bad.json 2>&1; echo $?
echo '{"payload": "!"}' >bad.json; wsurg verify m --oms bad.json 2>&1; echo $?
echo '{}' >bad.json; wsurg verify m --oms bad.json 2>&1; echo $?
ln -s a-b m/link; wsurg manifest m --oms | grep allow
wsurg manifest m --oms --sha256sums 2>&1; echo $?
