"""The scripts that run inside environments: POSIX sh, built-ins only, as an agent may have removed everything else.

Every command is started through LAUNCH, which says in its first lines, before the command's own first instruction and
so beyond the reach of what it runs, which process it is and whether it can be started at all.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Sequence
from typing import Literal

from pytest_harbor.environment.base import Output, Process

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
READY = b"harbor: ready"

# $1 is the prologue, $2 the word that must be a command, $3 marks the end, "line" or "words" as $4, then the command.
# The end is told in the output itself: the Engine tells it only when nothing holds the output open, or 2 s later.
# Two streams would reach us in no certain order, and the header must come first.
LAUNCH = r"""
exec 2>&1
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
    *) found=$(command -v -- "$2" 2>/dev/null) ||
         # The line is for bash, which has built-ins of its own.
         { [ "$4" = line ] && bash -c 'type -t -- "$1"' bash "$2" >/dev/null 2>&1; } ||
         { echo "harbor: $2: command not found in PATH=$PATH"; exit 127; } ;;
  esac
  case "$found" in
    /*) IFS= read -r first <"$found" 2>/dev/null
        case "$first" in
          '#!'*) set -f; for first in ${first#'#!'}; do break; done; set +f
                 [ -x "$first" ] || { echo "harbor: $found: its interpreter $first is missing"; exit 126; } ;;
        esac ;;
  esac
fi
end=$3 kind=$4
shift 4
echo 'harbor: ready'
if [ "$kind" = words ]; then "$@"
elif command -v bash >/dev/null 2>&1; then bash -c "$1"
else /bin/sh -c "$1"; fi
code=$?
printf '\nharbor: end %s %s\n' "$end" "$code"
exit "$code"
"""

# Kills what is newer than a moment, or what is below a process; stops it first, so that it cannot fork meanwhile.
# Speaks like LAUNCH, in one process, as there may be no room for another. $1 is "since" or "below", $2 a start tick or
# a process id, $3 marks the end.
KILL = r"""
exec 2>&1
mode=$1 mark=$2 end=$3
read -r stat </proc/self/stat && printf '%s\n' "$stat"
echo 'harbor: ready'
finish() { printf '%s\n\nharbor: end %s %s\n' "$1" "$end" "$2"; exit "$2"; }
victims() {
  # One pass over /proc notes parent, session and start of each process, in variables of its own to keep this linear;
  # another walks each process up to the ancestor that decides about it.
  pids='' found=''
  for dir in /proc/[0-9]*; do
    pid=${dir#/proc/}
    eval "up_$pid="
    read -r stat <"$dir/stat" || continue
    set -f; set -- ${stat##*) }; set +f
    case $1 in Z|X) continue ;; esac
    up=$2 session=$4
    shift 19
    eval "up_$pid=$up session_$pid=$session tick_$pid=$1"
    pids="$pids $pid"
  done 2>/dev/null
  for pid in $pids; do
    [ "$pid" = 1 ] && continue
    [ "$pid" = $$ ] && continue
    if [ "$mode" = since ]; then hit=1; else hit=0; fi
    at=$pid hops=0
    while [ "$at" != 1 ] && [ "$at" != 0 ] && [ $hops -lt 64 ]; do
      [ "$at" = $$ ] && { hit=0; break; }
      eval "up=\${up_$at:-} session=\${session_$at:-} tick=\${tick_$at:-}"
      [ -n "$up" ] || break
      if [ "$mode" = since ]; then
        [ "$tick" -lt "$mark" ] && { hit=0; break; }
      elif [ "$at" = "$mark" ] || [ "$session" = "$mark" ]; then
        hit=1; break
      fi
      at=$up; hops=$((hops + 1))
    done
    [ $hit = 1 ] && found="$found $pid"
  done
}
round=0
while [ $round -lt 50 ]; do
  victims
  [ -z "$found" ] && finish 'none left' 0
  for pid in $found; do kill -STOP "$pid"; done 2>/dev/null
  victims
  for pid in $found; do kill -KILL "$pid"; done 2>/dev/null
  round=$((round + 1))
done
finish "still there:$found" 1
"""


def launch_command(command: str | Sequence[str], end: str, prologue: str = "") -> list[str]:
    """Return the argument vector that starts a command through LAUNCH.

    Args:
        command: a command line, or words.
        end: what marks the end in the output; not to be guessed.
        prologue: a script that runs before.

    """
    if isinstance(command, str):
        return ["/bin/sh", "-c", LAUNCH, "sh", prologue, first_word(command), end, "line", command]
    words = list(command)
    return ["/bin/sh", "-c", LAUNCH, "sh", prologue, words[0], end, "words", *words]


def kill_command(mode: Literal["since", "below"], mark: int, end: str) -> list[str]:
    """Return the argument vector that kills what began at a tick or later, or what is below a process."""
    return ["/bin/sh", "-c", KILL, "sh", mode, str(mark), end]


class OutputParser:
    """Takes apart what a command that was started through LAUNCH sends: header, output, end.

    Args:
        end: the mark that was given to launch().
        output: takes the command's own output.
        on_start: called with the process when the header is complete.

    Attributes:
        process: the process, once it has begun.
        exit_code: the exit code, once the end has been told.
        start_error: what was said instead of a header.

    """

    HEADER_LIMIT = 64 * 1024

    def __init__(self, end: str, output: Output, on_start: Callable[[Process], None] | None = None) -> None:
        self._mark = f"\nharbor: end {end} ".encode()
        self._output = output
        self._on_start = on_start
        self._pending = bytearray()
        self.process: Process | None = None
        self.started = False
        self.exit_code: int | None = None

    def feed(self, data: bytes) -> None:
        """Take the next bytes; what follows the end is dropped."""
        if self.exit_code is not None:
            return
        self._pending += data
        if not self.started and not self._read_header():
            del self._pending[self.HEADER_LIMIT :]
            return
        at = self._pending.find(self._mark)
        if at >= 0:
            code, newline, _ = bytes(self._pending[at + len(self._mark) :]).partition(b"\n")
            if newline:
                self.exit_code = int(code) if code.isdigit() else -1
            self._release(at)
        else:
            self._release(len(self._pending) - self._held())

    def close(self) -> None:
        """Hand over what was held back, as there is no more to come."""
        if self.started and self.exit_code is None:
            self._release(len(self._pending))

    @property
    def start_error(self) -> str:
        """What was said by a command that never began."""
        lines = bytes(self._pending).decode("utf-8", "replace").splitlines()
        return " ".join(line.removeprefix("harbor: ") for line in lines if parse_header(line.encode()) is None)

    def _read_header(self) -> bool:
        lines = bytes(self._pending).split(b"\n", 2)
        if len(lines) < 3 or lines[1] != READY:
            return False
        self.process = parse_header(lines[0])
        self.started = True
        self._pending[:] = lines[2]
        if self.process and self._on_start:
            self._on_start(self.process)
        return True

    def _held(self) -> int:
        """Return how many of the last bytes may be the beginning of the mark."""
        for length in range(min(len(self._mark), len(self._pending)), 0, -1):
            if self._pending.endswith(self._mark[:length]):
                return length
        return 0

    def _release(self, size: int) -> None:
        if size:
            self._output(bytes(self._pending[:size]))
            del self._pending[:size]


def first_word(line: str) -> str:
    """Return the program that a command line starts with, or nothing where only a shell can tell.

    Only the first command is looked at: what follows it may depend on what it does.
    """
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    lexer.commenters = ""
    try:
        word, following = next(iter(lexer), ""), next(iter(lexer), "")
    except ValueError:
        return ""
    if following.startswith("("):  # it defines a function
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
