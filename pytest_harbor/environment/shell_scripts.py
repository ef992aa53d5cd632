"""Scripts that run inside environments: POSIX sh with built-ins only, as an agent may have removed all other programs.

LAUNCH starts every command. Its first lines of output report its process and whether the command can start at all; they
come before the command's first instruction, so the command cannot forge them.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Sequence
from typing import Literal

from pytest_harbor.environment.base import Output, Process
from pytest_harbor.errors import CannotExecute

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
READY = b"harbor: ready"
LINE_ENDINGS_FIX = "convert it with dos2unix, and keep Git from converting it back with 'eol=lf' in .gitattributes"

# $1 is the prologue, $2 the word that must be a command, $3 the end marker, $4 "line" or "words"; the command follows.
# The end is reported in the output because the Engine reports it only once no process holds the output open, or 2 s
# later. Standard error joins standard output because two streams arrive in no fixed order, and the header comes first.
LAUNCH = r"""
exec 2>&1
read -r stat </proc/self/stat && printf '%s\n' "$stat" || { echo 'harbor: /proc cannot be read'; exit 126; }
if [ -n "$1" ]; then
  message=$( ( PATH=/usr/sbin:/usr/bin:/sbin:/bin; eval "$1" ) 2>&1 ) ||
    { echo "harbor: the prologue failed: $message"; exit 126; }
fi
if [ -n "$2" ]; then
  case "$2" in
    */*) [ -e "$2" ] || { echo "harbor: $2: no such file"; exit 127; }
         [ -d "$2" ] && { echo "harbor: $2: is a directory"; exit 126; }
         [ -x "$2" ] || { echo "harbor: $2: not executable"; exit 126; }
         found=$2 ;;
    *) found=$(command -v -- "$2" 2>/dev/null) ||
         # bash will run the line, and it has built-ins that sh lacks.
         { [ "$4" = line ] && bash -c 'type -t -- "$1"' bash "$2" >/dev/null 2>&1; } ||
         { echo "harbor: $2: command not found in PATH=$PATH"; exit 127; } ;;
  esac
  case "$found" in
    */*) IFS= read -r first <"$found" 2>/dev/null
        case "$first" in
          '#!'*<CR>) echo "harbor: $found: its lines end with CRLF, so its interpreter is not found; <FIX>"; exit 126 ;;
          '<BOM>#!'*) echo "harbor: $found: a byte order mark hides its interpreter; save it without one"; exit 126 ;;
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
LAUNCH = LAUNCH.replace("<CR>", "'\r'").replace("<BOM>", "\ufeff").replace("<FIX>", LINE_ENDINGS_FIX)

# Kills all processes started since a moment, or a process and its descendants. Stops them first, so that they cannot
# fork meanwhile. Writes the same format as LAUNCH. Runs as one process, as there may be no room for a second one.
# $1 is "since" or "below", $2 a start tick or a process id, $3 the end marker.
KILL = r"""
exec 2>&1
mode=$1 mark=$2 end=$3
read -r stat </proc/self/stat && printf '%s\n' "$stat"
echo 'harbor: ready'
finish() { printf '%s\n\nharbor: end %s %s\n' "$1" "$end" "$2"; exit "$2"; }
victims() {
  # One pass over /proc stores each process's parent, session and start in shell variables, which keeps this linear.
  # A second pass walks from each process up to the ancestor that decides.
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
    """Return the argument vector that runs a command through LAUNCH.

    Args:
        command: a command line, or the words of one program.
        end: marks the end in the output; must be unguessable.
        prologue: a script to run first.

    Raises:
        CannotExecute: there are no words, or no system could pass them on.

    """
    words = [command] if isinstance(command, str) else list(command)
    if any("\0" in word for word in words):
        raise CannotExecute("the command contains a null character", exit_code=126)
    if isinstance(command, str):
        return ["/bin/sh", "-c", LAUNCH, "sh", prologue, first_word(command), end, "line", command]
    if not words:
        raise CannotExecute("the command is empty", exit_code=126)
    return ["/bin/sh", "-c", LAUNCH, "sh", prologue, words[0], end, "words", *words]


def kill_command(mode: Literal["since", "below"], mark: int, end: str) -> list[str]:
    """Return the argument vector that kills all processes started since a tick, or a process and its descendants."""
    return ["/bin/sh", "-c", KILL, "sh", mode, str(mark), end]


class OutputParser:
    """Splits the output of LAUNCH into header, command output and end.

    Args:
        end: the end marker given to launch_command().
        output: called with the command's own output.
        on_start: called with the process when the header is complete.

    Attributes:
        process: the process, once it has started.
        started: whether the header is complete.
        exit_code: the exit code, once the end was reported.

    """

    HEADER_LIMIT = 64 * 1024

    def __init__(self, end: str, output: Output, on_start: Callable[[Process], None] | None = None) -> None:
        self._marker = f"\nharbor: end {end} ".encode()
        self._output = output
        self._on_start = on_start
        self._pending = bytearray()
        self.process: Process | None = None
        self.started = False
        self.exit_code: int | None = None

    def feed(self, data: bytes) -> None:
        """Parse the next bytes; bytes after the end are dropped."""
        if self.exit_code is not None:
            return
        self._pending += data
        if not self.started and not self._read_header():
            del self._pending[self.HEADER_LIMIT :]
            return
        at = self._pending.find(self._marker)
        if at >= 0:
            code, newline, _ = bytes(self._pending[at + len(self._marker) :]).partition(b"\n")
            if newline:
                self.exit_code = int(code) if code.isdigit() else -1
            self._release(at)
        else:
            self._release(len(self._pending) - self._partial_marker_size())

    def close(self) -> None:
        """Pass on the bytes held back as a possible end marker: no more output will come."""
        if self.started and self.exit_code is None:
            self._release(len(self._pending))

    @property
    def start_error(self) -> str:
        """Why the command did not start: the lines printed instead of a header."""
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

    def _partial_marker_size(self) -> int:
        """Return how many of the last bytes may be the start of the end marker."""
        for length in range(min(len(self._marker), len(self._pending)), 0, -1):
            if self._pending.endswith(self._marker[:length]):
                return length
        return 0

    def _release(self, size: int) -> None:
        if size:
            self._output(bytes(self._pending[:size]))
            del self._pending[:size]


def first_word(line: str) -> str:
    """Return the program of a command line that is a single simple command, or "" if only a shell can know.

    The command may come after assignments or after `cd DIR`. In any other list, a pipeline or a compound command, a
    missing program is for the shell to handle: the line may provide for it, as `uv --version || pip install uv` does.
    """
    if len(line) > _LONGEST_JUDGED:
        return ""
    line = _without_here_document(line.replace("\\\n", " ").strip())
    lexer = shlex.shlex(line, posix=True, punctuation_chars=_PUNCTUATION)
    lexer.whitespace = " \t\r"
    lexer.whitespace_split = True
    lexer.commenters = ""
    try:
        words = list(lexer)
    except ValueError:
        return ""
    moved = len(words) > 3 and words[0] == "cd" and words[2] in ("&&", ";", "\n")
    if moved:
        del words[:3]
    # Another PATH may have the program.
    while len(words) > 1 and _ASSIGNMENT.match(words[0]) and not words[0].startswith("PATH="):
        del words[0]
    word = words[0] if words else ""
    # An operator, an assignment or an expansion: only the shell can interpret it.
    if _has_operator(words) or re.search(r"[$`=*?\[\]{}~!#<>]", word) or word not in line:
        return ""
    return "" if moved and "/" in word and not word.startswith("/") else word


# A longer line is a script. shlex takes seconds for one, and minutes for a file that a model writes.
_LONGEST_JUDGED = 8192
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")
_PUNCTUATION = "();<>|&\n"
_REDIRECTIONS = frozenset(("", "<", ">", ">>", "<<<", "<>", ">|", ">&", "<&", "&>", "&>>"))


def _has_operator(words: Sequence[str]) -> bool:
    """Return True if words contain an operator other than a redirection, outside `$(...)`."""
    depth, before = 0, ""
    for word in words:
        if set(word) <= set(_PUNCTUATION):
            left = word
            while left and (depth or (before.endswith("$") and left == word and left[0] == "(")):
                depth += {"(": 1, ")": -1}.get(left[0], 0)
                left = left[1:]
            if left not in _REDIRECTIONS:
                return True
        before = word
    return False


def _without_here_document(line: str) -> str:
    """Return the command line of a script that is one line and its here-document, or any other script unchanged."""
    match = re.fullmatch(r"([^\n]*)<<-?[ \t]*(['\"]?)(\w+)\2([^\n]*)\n(?:.*\n)?\t*\3", line, re.DOTALL)
    return match[1] + match[4] if match and f"\n{match[3]}\n" not in line else line


def parse_header(stat_line: bytes) -> Process | None:
    """Parse the /proc/self/stat line of LAUNCH's header; None if it is not one."""
    pid, _, rest = stat_line.partition(b" (")
    fields = rest.rpartition(b") ")[2].split()
    try:
        return Process(int(pid), int(fields[19]))
    except (ValueError, IndexError):
        return None
