# eval "$(caltech-exp completion zsh)", after compinit
_caltech_exp() {
  local cur="${words[CURRENT]}" command="" dashes="" word
  local -aU keys values
  (( CURRENT > 2 )) && command="${words[2]}"
  if [[ $cur == --* ]]; then dashes=--; cur="${cur#--}"; fi
  for word in $(_caltech_exp_words "$command"); do
    if [[ $word == *=* && $cur != *=* ]]; then keys+=("$dashes${word%%=*}=")
    elif [[ $cur == *=*,* && ${word%%=*} == ${cur%%=*} ]]; then values+=("$dashes${cur%,*},${word#*=}")
    elif [[ $word != *= ]]; then values+=("$dashes$word"); fi
  done
  values=(${(M)values:#${dashes}${cur}*})
  compadd -Q -S '' -a keys
  if (( $#values )); then compadd -Q -a values; elif [[ $cur == *=* ]]; then compset -P '*='; _files; fi
}
compdef _caltech_exp caltech-exp
