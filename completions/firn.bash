# SPDX-License-Identifier: MIT
# Completion in bash for firn-img, firn-io, firn-vmm and firn-vmstate.
#
# What can be typed is what the programs' own --help and -o help say, asked each
# time: nothing here has to be changed when an option comes or goes. Needs bash
# 4 and awk; the package bash-completion only loads this file.
#
# Our functions see what _firn() has found out: prog, sub (the subcommand or
# nothing), cur (the word under the cursor) and prev (the one before).

# --help of the program or of the subcommand.
_firn_help()
{
    "$prog" ${sub:+"$sub"} --help 2>/dev/null </dev/null
}

# The words of $1 that begin with $2 (what is typed) become the answer, each
# with $3 before it.
_firn_words()
{
    mapfile -t COMPREPLY < <(compgen -W "$1" -P "${3-}" -- "$2")
}

# The same for names of files.
_firn_files()
{
    compopt -o filenames 2>/dev/null
    mapfile -t COMPREPLY < <(compgen -f -P "${2-}" -- "$1")
}

# The options in a help text: all words with dashes before the explanation.
_firn_options()
{
    _firn_help | awk '
        /^ +-/ {
            sub(/^ +/, ""); sub(/  .*/, "")
            n = split($0, words, /[ ,]+/)
            for (i = 1; i <= n; i++)
                if (words[i] ~ /^-/)
                    print words[i]
        }'
}

# What the argument of option $1 can be: "FILE" or another placeholder, or the
# words there are. Nothing when it takes none. Where the placeholder does not
# tell, the explanation lists words: "off, falloc or full: what it gets".
_firn_argument()
{
    _firn_help | awk -v option="$1" '
        function done() {
            found = 0   # exit runs END
            if (arg ~ /\|/) { gsub(/\|/, " ", arg); print arg; exit }
            if (arg == "CACHE")
                text = "none, writeback, writethrough, directsync or unsafe"
            else if (arg == "FORMAT" && text !~ /^human/)
                text = "qcow2 or raw"
            else if (arg !~ /^(MODE|KIND|AIO|FORMAT)$/) { print arg; exit }
            sub(/[:;].*/, "", text)
            gsub(/\([^)]*\)|,/, " ", text)
            gsub(/ or /, " ", text)
            print text
            exit
        }
        found && /^ +-|^$/ { done() }
        found { sub(/^ +/, ""); text = text " " $0; next }
        /^ +-/ {
            left = $0
            sub(/^ +/, "", left)
            text = left
            if (!sub(/  .*/, "", left)) text = ""
            else sub(/.*[^ ]  +/, "", text)
            n = split(left, words, /[ ,]+/)
            for (i = 1; i <= n; i++)
                if (words[i] == option && words[n] !~ /^-/) {
                    arg = words[n]
                    found = 1
                }
        }
        END { if (found) done() }'
}

# The subcommands that the program's --help lists.
_firn_commands()
{
    local sub=""
    _firn_help | sed -n 's/^  \([a-z][a-z-]*\)  .*/\1/p'
}

# The value of option $1 on the line so far.
_firn_given()
{
    local i
    for ((i = 1; i < ${#words[@]} - 1; i++)); do
        if [[ ${words[i]} == "$1" ]]; then
            printf '%s' "${words[i + 1]}"
        fi
    done
}

# -o NAME=VALUE,...: names of options, or the values of one.
_firn_image_options()
{
    local done="" key format help
    case $sub in
    create) format=$(_firn_given -f); format=${format:-raw} ;;
    amend)  format=$(_firn_given -f); format=${format:-qcow2} ;;
    *)      format=$(_firn_given -O); format=${format:-raw} ;;
    esac
    case $sub in
    amend) help=$("$prog" amend -f "$format" -o help 2>/dev/null) ;;
    *)     help=$("$prog" create -f "$format" -o help x 2>/dev/null) ;;
    esac
    if [[ $cur == *,* ]]; then
        done=${cur%,*},
    fi
    key=${cur##*,}
    if [[ $key == *=* ]]; then
        _firn_words "$(awk -v key="${key%%=*}=" '
            index($1, key) == 1 && /<bool/ { print "on off" }
            index($1, key) == 1 && /active\/inactive/ {
                print "active inactive" }
            index($1, key) == 1 && sub(/.*values: /, "") {
                gsub(/[,)]/, " "); print
            }' <<< "$help")" "${key#*=}" "$done${key%%=*}="
    else
        compopt -o nospace 2>/dev/null
        _firn_words "$(sed -n 's/^  \([a-z_.-]*=\)<.*/\1/p' <<< "$help")" \
                    "$key" "$done"
    fi
}

# The image of the line, which can stand behind the cursor: of several the
# first one, which is what the others are made from.
_firn_image()
{
    local i
    for ((i = 1; i < ${#COMP_WORDS[@]}; i++)); do
        if ((i != COMP_CWORD)) && [[ -f ${COMP_WORDS[i]} ]]; then
            printf '%s' "${COMP_WORDS[i]}"
            return
        fi
    done
}

# The names of its snapshots, or of its bitmaps.
_firn_snapshots()
{
    "$prog" snapshot -l -U "$(_firn_image)" 2>/dev/null |
        awk 'NR > 2 { print $2 }'
}

_firn_bitmaps()
{
    "$prog" info -U "$(_firn_image)" 2>/dev/null |
        sed -n 's/^ \{12\}name: //p'
}

# The argument of option $1, of which $2 is typed, into COMPREPLY with $3
# before it. Fails when the option takes none.
_firn_complete_argument()
{
    local argument
    case $prog:$sub:$1 in
    *firn-img:snapshot:-[ad] | *firn-img:convert:-l | *firn-img:measure:-l)
        _firn_words "$(_firn_snapshots)" "$2"
        return ;;
    *firn-img:bitmap:--merge)
        _firn_words "$(_firn_bitmaps)" "$2" "${3-}"
        return ;;
    esac
    argument=$(_firn_argument "$1")
    case $argument in
    '')           return 1 ;;
    FILE | BASE)  _firn_files "$2" "${3-}" ;;
    COMMAND)      _firn_words "$("$prog" -c help 2>/dev/null |
                                 sed -n 's/^\([a-z_]*\).* -- .*/\1/p')" \
                              "${2#[\'\"]}" ;;
    *[A-Z]*)      COMPREPLY=() ;;
    *)            _firn_words "$argument" "$2" "${3-}" ;;
    esac
}

# Words that are no options: files, in dd operands, in firn-vmstate also tags.
_firn_operand()
{
    local image operands
    case $prog:$sub in
    *:dd)
        operands=$(_firn_help | sed -n 1p | grep -o '[a-z]*=')
        case $cur in
        if=* | of=*) _firn_files "${cur#*=}" "${cur%%=*}=" ;;
        *=*)         ;;
        *)           compopt -o nospace 2>/dev/null
                     _firn_words "$operands" "$cur" ;;
        esac ;;
    *firn-vmstate:?*)
        image=${words[${#words[@]} - 2]}
        if [[ $sub != list && -f $image ]]; then
            _firn_words "$("$prog" list "$image" 2>/dev/null |
                           awk 'NR > 2 { print $2 }')" "$cur"
        else
            _firn_files "$cur"
        fi ;;
    *)
        _firn_files "$cur" ;;
    esac
}

# bash takes "--output=json" for three words; here it is one again.
_firn_join()
{
    local i word
    words=()
    for ((i = 0; i <= COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        if ((i > 1)) && [[ $word == = || ${COMP_WORDS[i - 1]} == = ]]; then
            words[${#words[@]} - 1]+=$word
        else
            words+=("$word")
        fi
    done
}

_firn()
{
    local prog=${COMP_WORDS[0]} sub="" cur prev words last i
    COMPREPLY=()
    _firn_join
    cur=${words[${#words[@]} - 1]}
    prev=${words[${#words[@]} - 2]}
    case $prog in
    *firn-img | *firn-vmstate)
        for ((i = 1; i < ${#words[@]} - 1; i++)); do
            case ${words[i]} in
            -T | --trace) ((i++)) ;;
            -*)           ;;
            *)            sub=${words[i]}; break ;;
            esac
        done
        if [[ -z $sub && $cur != -* ]]; then
            _firn_words "$(_firn_commands)" "$cur"
            return
        fi ;;
    esac

    if [[ $prev == -o && $prog:$sub == *firn-img:@(create|convert|measure|amend) ]]
    then
        _firn_image_options
    elif [[ $cur == --*=* ]]; then
        _firn_complete_argument "${cur%%=*}" "${cur#*=}" "${cur%%=*}="
    elif [[ $prev == -* ]] && _firn_complete_argument "$prev" "$cur"; then
        :
    elif [[ $cur == -* ]]; then
        _firn_words "$(_firn_options)" "$cur"
    else
        _firn_operand
    fi

    # Only what follows the last "=" is the word that bash replaces.
    if [[ $cur == *=* && $COMP_WORDBREAKS == *=* ]]; then
        last=${cur%=*}=
        COMPREPLY=("${COMPREPLY[@]#"$last"}")
    fi
}

complete -F _firn firn-img firn-io firn-vmm firn-vmstate
