# Every mistake of a recipe in one report; what has no effect is a mistake, unless --lenient.
mkmodel base/ --llama 2,16,32
mkmodel one/ --llama 2,16,32 --update 1,0.02
cat >bad.yml <<'END'
models:
  - model: base
    weight: 0.3
  - model: one
    parameters:
      weigth: 1
      normalize: true
      density: 2.0
merge-method: tise
base_model: base
parametres: {}
dtype: bf17
normalize: true
END
wsurg merge bad.yml out; echo $?
sed -e s/tise/ties/ -e s/bf17/bfloat16/ bad.yml >better.yml
wsurg merge better.yml out --method ties; echo $?
sed -e s/2.0/0.2/ -e s/weigth/weight/ better.yml >void.yml
wsurg merge void.yml out --lenient; echo $?
echo 'a: [' >broken.yml
wsurg plan broken.yml; echo $?
wsurg plan none.yml; echo $?
cat >missing.yml <<'END'
merge_method: slerp
base_model: base
models: [{model: base}, {model: one}]
parameters: {t: [{filter: mlp, value: 1}]}
END
wsurg merge missing.yml out2 more; echo $?
wsurg merge missing.yml out2; echo $?
wsurg merge -o out2; echo $?
