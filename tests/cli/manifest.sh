mkmodel base/ --llama 1,8,16
wsurg manifest base >manifest.txt && mv manifest.txt base/manifest.json
wsurg verify base; echo $?
(cd base && wsurg manifest . --sha256sums >../sums.txt && sha256sum --check ../sums.txt)
