# eval "$(caltech-exp completion bash)"
_caltech_exp() {
  local line="${COMP_LINE:0:COMP_POINT}"; local cur="${line##* }" dashes="" head word last=""; COMPREPLY=()
  local -a words; read -ra words <<< "$line"
  if [[ $cur == --* ]]; then dashes=--; cur="${cur#--}"; fi
  local command="${words[1]}"
  if (( ${#words[@]} < 2 )) || [[ ${#words[@]} == 2 && $line != *" " ]]; then command=""; fi
  if [[ $cur == *=*,* ]]; then head="${cur%,*},"; cur="${cur%%=*}=${cur##*,}"; last="$head"; fi
  [[ $cur == *=* ]] || cur="${cur//-/_}"
  for word in $(_caltech_exp_words "$command"); do
    if [[ $cur != *=* && $word == *=* ]]; then word="${word%%=*}="; fi
    if [[ $word == "$cur"* && ! ( $cur == *=* && $word == *= ) ]]; then
      [[ -n $last ]] && word="$last${word#*=}"
      COMPREPLY+=("$dashes$word")
    fi
  done
  if [[ $cur == *=* && ${#COMPREPLY[@]} == 0 ]]; then
    while IFS= read -r word; do COMPREPLY+=("$dashes${cur%%=*}=$word"); done < <(compgen -f -- "${cur#*=}")
  fi
  if [[ ${#COMPREPLY[@]} != 0 ]]; then
    mapfile -t COMPREPLY < <(printf '%s\n' "${COMPREPLY[@]}" | sort -u)
    [[ ${COMPREPLY[0]} == *= ]] && compopt -o nospace 2> /dev/null
    line="${line##* }"  # bash replaces what follows the last = alone
    if [[ $COMP_WORDBREAKS == *=* && $line == *=* ]]; then COMPREPLY=("${COMPREPLY[@]#"${line%=*}="}"); fi
  fi
}
complete -F _caltech_exp caltech-exp
