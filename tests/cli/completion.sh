# The scripts are read by their shells without a complaint, where these are installed.
wsurg completion bash >c.bash && bash -n c.bash && echo bash
wsurg completion zsh >c.zsh && head -n 1 c.zsh
! command -v zsh >/dev/null || zsh -n c.zsh
wsurg completion fish >c.fish && head -n 1 c.fish
! command -v fish >/dev/null || fish --no-execute c.fish
wsurg completion tcsh; echo $?
complete_line() {
    bash -c '. ./c.bash; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); compopt() { :; }
        _wsurg; echo "${COMPREPLY[*]}"' bash "$@"
}
complete_line wsurg mer
complete_line wsurg merge a.st --meth
complete_line wsurg merge a.st --method bread
complete_line wsurg merge --color al
complete_line wsurg methods task_
complete_line wsurg merge --set dens
touch model.st
complete_line wsurg merge mod
