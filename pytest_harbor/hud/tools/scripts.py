"""The scripts behind an agent's tools, in POSIX sh and with only the programs that BusyBox has.

Standard library only: this module is also part of every env.py.
"""

import re

FILE_LIMIT = 16 * 1024 * 1024
"""Maximum size of a file to edit or to return as an image, in bytes."""
IGNORED = (".git", "node_modules", "__pycache__", ".venv")
"""Directories that grep, glob and list skip, unless the search starts in one."""

# Exit codes of the scripts below, and their meaning.
PROBLEMS = {
    40: "does not exist",
    41: "is a directory",
    42: "is not a regular file",
    43: "is not readable by this user",
    44: f"is larger than {FILE_LIMIT >> 20} MiB; use bash",
    45: "already exists; use str_replace or insert to change it, or bash to replace it",
    46: "is not a directory",
}

# A command saves the shell's state to a file, which the next command reads. The path of that file does not depend on
# variables that a command has changed: this script sees the environment's original ones.
BASH = r"""
state=
for dir in "${TMPDIR:-/tmp}" /tmp /var/tmp /dev/shm "${HOME:-/}"; do
  if [ -d "$dir" ] && [ -w "$dir" ] && [ -x "$dir" ]; then state=$dir/.harbor-bash-@TOKEN@; break; fi
done
if [ -n "@RESET@" ]; then rm -f "$state"; exit; fi
shell=$(command -v bash 2>/dev/null) || shell=/bin/sh
clean=
[ -f "$state" ] && command -v env >/dev/null 2>&1 && clean="env -i"
exec $clean "$shell" -c @SESSION@ "${shell##*/}" "$state" @COMMAND@
"""

# Runs in bash if it exists. The EXIT trap saves the state if the command calls `exit`; if the command replaces the
# trap, the state is saved when the command ends.
SESSION = r"""
harbor_state=$1 harbor_command=$2
if [ $# -lt 2 ]; then
  harbor_command=$(cat; echo .)
  harbor_command=${harbor_command%.}
fi
shift $#
exec </dev/null
harbor_save() {
  [ -n "$harbor_state" ] || { echo "harbor: the shell's state is not saved: no writable directory"; return 0; }
  ( umask 077; HARBOR_CWD=$PWD; export HARBOR_CWD; export -p >|"$harbor_state.new" ) 2>/dev/null &&
    PATH=/usr/bin:/bin:$PATH mv -f "$harbor_state.new" "$harbor_state" 2>/dev/null
}
if [ -f "$harbor_state" ]; then
  . "$harbor_state" 2>/dev/null
  harbor_old=${OLDPWD-}
  cd -- "$HARBOR_CWD" 2>/dev/null || echo "harbor: $HARBOR_CWD no longer exists; running in $(pwd)"
  OLDPWD=$harbor_old
  unset HARBOR_CWD harbor_old
fi
trap '{ set +x; } 2>/dev/null; harbor_save' EXIT
eval " $harbor_command"
{ harbor_code=$?; set +x; } 2>/dev/null
harbor_save
exit "$harbor_code"
"""

# The output before the token is noise from the shell's start, such as a warning about a missing locale.
READ = r"""
path=@PATH@
[ -e "$path" ] || exit 40
[ -d "$path" ] && exit 41
[ -f "$path" ] || exit 42
[ -r "$path" ] || exit 43
size=$(wc -c <"$path") || exit 43
"""

PAGE = (
    READ
    + r"""
lines=$(wc -l <"$path")
[ -n "$(tail -c 1 "$path" | tr -d '\000')" ] && lines=$((lines + 1))
printf '%s\n' "@TOKEN@" $((size)) $((lines))
tail -n +@FIRST@ "$path" | head -n @COUNT@ | head -c @LIMIT@
"""
)

WHOLE = (
    READ
    + r"""
[ "$size" -le @LIMIT@ ] || exit 44
printf '%s\n' "@TOKEN@"
cat "$path" || exit 43
"""
)

CREATE = r"""
path=@PATH@
[ -d "$path" ] && exit 41
[ -e "$path" ] || [ -L "$path" ] && exit 45
mkdir -p "${path%/*}/" && cat >"$path"
"""

WRITE = r"""
cat >@PATH@
"""

REMOVE = r"""
rm -f @PATH@
"""

# Prints every path, directories with a trailing slash. In the root directory, /proc, /sys and /dev are skipped.
# BusyBox ignores an `-exec ... +` within parentheses.
WALK = r"""
path=@PATH@
[ -e "$path" ] || exit 40
[ -d "$path" ] || exit 46
cd "$path" || exit 43
root=.//
[ "$(pwd -P)" = / ] && root=./
printf '%s\n' "@TOKEN@"
find . \( -path "${root}proc" -o -path "${root}sys" -o -path "${root}dev" @IGNORED@ \) -prune \
  -o @DEPTH@ -type d -exec printf '%s/\000' {} + -o ! -type d -exec printf '%s\000' {} + 2>/dev/null
exit 0
"""

# Files with a newline in their name are searched one by one, as `grep -l` prints one name a line.
GREP = r"""
path=@PATH@
[ -e "$path" ] || exit 40
error=$(echo | grep -E -e @PATTERN@ 2>&1)
[ $? -le 1 ] || { printf '%s\n' "$error"; exit 2; }
kind=file
if [ -d "$path" ]; then cd "$path" || exit 43; path=. kind=directory; fi
root=.//
[ "$(pwd -P)" = / ] && root=./
show='show() { printf "\n%s%s\000" "@TOKEN@" "$1"; grep -E -n -e "$pattern" "$1" 2>/dev/null | head -n @COUNT@; }'
printf '%s\n' "@TOKEN@" "$kind"
find -H "$path" \( -path "${root}proc" -o -path "${root}sys" -o -path "${root}dev" @IGNORED@ \) -prune \
  -o -type f @NAMES@ -path '*
*' -exec /bin/sh -c "pattern=\$1; $show"'
    grep -E -q -e "$pattern" "$2" 2>/dev/null && show "$2"' sh @PATTERN@ {} \; \
  -o -type f @NAMES@ ! -path '*
*' -exec /bin/sh -c "pattern=\$1; shift; $show"'
    grep -E -l -e "$pattern" "$@" 2>/dev/null | while IFS= read -r name; do show "$name"; done' sh @PATTERN@ {} + \
  2>/dev/null
exit 0
"""


def fill_script(template: str, **values: str) -> str:
    """Return a script with its placeholders replaced, in one pass, as a value may look like a placeholder."""
    return re.sub(r"@([A-Z]+)@", lambda found: values[found.group(1)], template)
