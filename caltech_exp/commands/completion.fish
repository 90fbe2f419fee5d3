# caltech-exp completion fish | source
function _caltech_exp
  set -l typed (commandline -opc) (commandline -ct)
  set -l dashes (string match -r '^--' -- $typed[-1]); set -l cur (string replace -r '^--' '' -- $typed[-1])
  set -l command ''; test (count $typed) -gt 2; and set command $typed[2]
  set -l words (_caltech_exp_words $command)
  if string match -q '*=*,*' -- $cur
    set -l key (string split -m 1 = -- $cur)[1]; set -l head (string replace -r ',[^,]*$' '' -- $cur)
    string match -v -- "$key=" $words | string replace -f -r -- "^$key=" "$dashes$head,"
  else if string match -q '*=*' -- $cur
    string match -- "$cur*" $words | string match -v '*=' | string replace -r -- '^' "$dashes"
    or begin
      set -l key (string split -m 1 = -- $cur)[1]
      __fish_complete_path (string replace -r '^[^=]*=' '' -- $cur) | string replace -r -- '^' "$dashes$key="
    end
  else
    string replace -r '=.*' '=' -- $words | sort -u | string replace -r -- '^' "$dashes"
  end
end
complete -c caltech-exp -f -a '(_caltech_exp)'
