"""The scripts that run inside environments: POSIX sh, built-ins only, as an agent may have removed everything else.

Every command is started through LAUNCH, which says in its first lines, before the command's own first instruction and
so beyond the reach of what it runs, which process it is and whether it can be started at all.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from pytest_harbor.environment.base import Process

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
READY = b"harbor: ready"

# $1 is the prologue, $2 the word that must be a command, "line" or "words" as $3, then the command.
LAUNCH = r"""
read -r stat </proc/self/stat && printf '%s\n' "$stat" || { echo 'harbor: /proc cannot be read'; exit 126; }
if [ -n "$1" ]; then
  said=$( ( PATH=/usr/sbin:/usr/bin:/sbin:/bin; eval "$1" ) 2>&1 ) ||
    { echo "harbor: preparing failed: $said"; exit 126; }
fi
if [ -n "$2" ]; then
  case "$2" in
    */*) [ -e "$2" ] || { echo "harbor: $2: no such file"; exit 127; }
         [ -d "$2" ] && { echo "harbor: $2: is a directory"; exit 126; }
         [ -x "$2" ] || { echo "harbor: $2: not executable"; exit 126; }
         found=$2 ;;
    *) found=$(command -v -- "$2" 2>/dev/null) || { echo "harbor: $2: command not found in PATH=$PATH"; exit 127; } ;;
  esac
  case "$found" in
    /*) IFS= read -r first <"$found" 2>/dev/null
        case "$first" in
          '#!'*) set -f; for first in ${first#'#!'}; do break; done; set +f
                 [ -x "$first" ] || { echo "harbor: $found: its interpreter $first is missing"; exit 126; } ;;
        esac ;;
  esac
fi
kind=$3 line=$4
echo 'harbor: ready'
if [ "$kind" = line ]; then
  if command -v bash >/dev/null 2>&1; then exec bash -c "$line"; else exec /bin/sh -c "$line"; fi
fi
"""

# Kills what is newer than a moment, or what is below a process; stops it first, so that it cannot fork meanwhile.
# $1 is "since" or "below", $2 a start tick or a process id.
KILL = r"""
mode=$1 mark=$2
victims() {
  # Two passes over /proc: one that notes parents, one that walks each process up to whatever decides about it.
  parents=' ' found=''
  for dir in /proc/[0-9]*; do
    read -r stat <"$dir/stat" || continue
    pid=${dir#/proc/}; rest=${stat##*) }
    set -f; set -- $rest; set +f
    case $1 in Z|X) continue ;; esac
    shift 19; tick=$1
    set -f; set -- $rest; set +f
    parents="$parents$pid=$2=$4=$tick "
  done 2>/dev/null
  for entry in $parents; do
    pid=${entry%%=*}; at=$pid
    [ "$pid" = 1 ] && continue; [ "$pid" = $$ ] && continue
    if [ "$mode" = since ]; then hit=1; else hit=0; fi
    hops=0
    while [ "$at" != 1 ] && [ "$at" != 0 ] && [ $hops -lt 64 ]; do
      [ "$at" = $$ ] && { hit=0; break; }
      case "$parents" in *" $at="*) ;; *) break ;; esac
      row=${parents##*" $at="}; row=${row%%" "*}
      up=${row%%=*}; row=${row#*=}; session=${row%%=*}; tick=${row#*=}
      if [ "$mode" = since ]; then
        [ "$tick" -lt "$mark" ] && { hit=0; break; }
      else
        if [ "$at" = "$mark" ] || [ "$session" = "$mark" ]; then hit=1; break; fi
      fi
      at=$up; hops=$((hops + 1))
    done
    [ $hit = 1 ] && found="$found $pid"
  done
}
round=0
while [ $round -lt 50 ]; do
  victims
  [ -z "$found" ] && { echo 'harbor: none left'; exit 0; }
  for pid in $found; do kill -STOP "$pid"; done 2>/dev/null
  victims
  for pid in $found; do kill -KILL "$pid"; done 2>/dev/null
  round=$((round + 1))
done
echo "harbor: still there:$found"
exit 1
"""


def launch(command: str | Sequence[str], prologue: str = "") -> list[str]:
    """Return the argument vector that starts a command through LAUNCH."""
    if isinstance(command, str):
        return ["/bin/sh", "-c", LAUNCH, "sh", prologue, first_word(command), "line", command]
    words = list(command)
    return ["/bin/sh", "-c", LAUNCH + 'shift 3; exec "$@"\n', "sh", prologue, words[0], "words", *words]


def first_word(line: str) -> str:
    """Return the program that a command line starts with, or nothing where only a shell can tell.

    Only the first command is looked at: what follows it may depend on what it does.
    """
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    lexer.commenters = ""
    try:
        word = next(iter(lexer), "")
    except ValueError:
        return ""
    # An assignment, an expansion or an operator: whatever the shell makes of it is its business.
    if re.search(r"[$`=*?\[\]{}~!#();<>|&\n]", word) or word not in line:
        return ""
    return word


def parse_header(stat_line: bytes) -> Process | None:
    """Read the process that LAUNCH announced from its line of /proc/self/stat; None if it is none."""
    pid, _, rest = stat_line.partition(b" (")
    fields = rest.rpartition(b") ")[2].split()
    try:
        return Process(int(pid), int(fields[19]))
    except (ValueError, IndexError):
        return None
