"""The isolation between the host and the namespace provider's environments."""

import contextlib
import http.server
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from pytest_harbor.environment import StartRequest
from pytest_harbor.environment.namespace import NamespaceProvider
from pytest_harbor.environment.namespace.sandbox import processes_of
from pytest_harbor.image import Image

# Unique to this process: control groups of other test processes come and go.
NAME = f"harbor-test-{os.getpid()}"

ATTACK = r"""
exec 2>/dev/null
# Write to every path that can be found, and to the paths given as arguments.
for path in "$@" $HOME /root /home /tmp /var/tmp /run /opt /srv /mnt /usr /etc /usr/local/bin /proc/sys/kernel /sys; do
  echo broken >"$path/harbor-was-here"
  echo broken >"$path"
  rm -rf "$path"/secret*
done
echo h >/proc/sysrq-trigger
echo '|/bin/false' >/proc/sys/kernel/core_pattern
find / -xdev -maxdepth 2 -type d | while read -r dir; do echo broken >"$dir/harbor-was-here"; done
# Look for the secret everywhere.
secret='secret-[0-9a-f]{32}'
for path in "$@"; do cat "$path"/* "$path"; done | grep -aE "$secret" && echo FOUND in a given path
grep -raosE "$secret" / --exclude-dir=proc --exclude-dir=sys | head -n 3 | sed 's/^/FOUND in /'
cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline /proc/keys | tr '\0' '\n' | grep -aE "$secret" && echo FOUND in proc
for path in "$@"; do cat /proc/*/root"$path"/* /proc/*/cwd"$path"; done | grep -aE "$secret" && echo FOUND root
ls /proc/self/fd/[3-9] >/tmp/fds; read -r fd </tmp/fds && [ -e "$fd" ] && echo FOUND "$fd"
find / -xdev -type b -o -xdev -name docker.sock | sed 's/^/FOUND device or socket /'
mknod /tmp/disk b 254 0 && echo FOUND a way to make devices
mount -t tmpfs none /mnt && echo FOUND a way to mount
unshare --user true && echo FOUND a way to more rights
chroot /proc/1/root true && echo FOUND the first process
# Kill every visible process, this shell last.
kill -KILL -1
"""


@pytest.fixture
def launch(namespace):
    """Yield a function that starts environments of the namespace provider on the host's own system."""
    started = []

    def launch(provider=namespace, **request):
        name = f"{NAME}-{secrets.token_hex(5)}"
        environment = provider.start(
            Image("debian:12", "present", provider.find_image("debian:12")),
            StartRequest(name=name, task="t/t", run="r", **request),
        )
        started.append(environment)
        return environment

    yield launch
    for environment in started:
        environment.stop()


@pytest.mark.slow
def test_escape_attempts_fail(launch, own_cache, tmp_path, monkeypatch):
    secret = f"secret-{secrets.token_hex(16)}"
    other = launch()
    other.exec(f"echo {secret} >/secret; setsid sleep 777 >/dev/null 2>&1 &")
    monkeypatch.setenv("HARBOR_HOST_SECRET", secret)
    (tmp_path / "secret.txt").write_text(secret)
    home = Path.home()
    mark = home / f".harbor-{secrets.token_hex(4)}"
    mark.write_text(secret)
    paths = [tmp_path, Path.cwd(), home, own_cache, own_cache / "pytest-harbor/namespace/t" / other.name / "u/root"]
    before = _state(paths[:4])
    mounts, processes = _mounts(), _processes()
    try:
        attacker = launch()
        result = attacker.exec(["bash", "-c", ATTACK, "sh", *map(str, paths), str(mark)], timeout=120)
    finally:
        kept, after = mark.read_text(), _state(paths[:4])
        mark.unlink()
    assert "FOUND" not in result.output, result.output
    assert secret not in result.output
    assert not result.timed_out
    assert kept == secret
    assert after == before
    assert (tmp_path / "secret.txt").read_text() == secret
    assert other.exec("cat /secret").output == f"{secret}\n"
    assert "sleep 777" in other.exec("cat /proc/[0-9]*/cmdline | tr '\\0' ' '").output
    assert _mounts() == mounts
    assert _processes() == processes
    assert attacker.is_running()
    assert attacker.exec("echo still here").output == "still here\n"


def _state(paths):
    return {str(path): sorted(child.name for child in path.iterdir()) for path in paths}


def _mounts():
    """Return the machine's mounts except those of container engines, which other processes may use."""
    return [line for line in Path("/proc/mounts").read_text().splitlines() if "docker" not in line]


def _processes():
    """Return the ids of this process and its ancestors."""
    found, pid = set(), os.getpid()
    while pid > 1:
        found.add(pid)
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return found


def test_private_host_directories_are_empty(launch):
    environment = launch()
    for directory in ("/home", "/root", "/tmp", "/var/tmp", "/run/lock", "/mnt", "/media", "/srv", "/opt"):
        assert environment.exec(["ls", "-A", directory]).output == "", directory
    shadow = environment.exec("cut -d: -f2 /etc/shadow /etc/gshadow | sort -u").output
    assert shadow == "*\n"
    assert environment.exec("cat /etc/machine-id").output == ""
    assert socket.gethostname() not in environment.exec("hostname; cat /etc/hostname /etc/hosts").output


def test_host_users_are_hidden(launch):
    ids = launch().exec("cut -d: -f3 /etc/passwd").output.split()
    assert not [number for number in ids if 1000 <= int(number) < 65534]


def test_hidden_directory_inside_a_visible_one(own_cache, launch):
    docs = next(path for path in (Path("/usr/share/doc"), Path("/usr/share")) if path.is_dir())
    with contextlib.closing(NamespaceProvider([docs])) as provider:
        assert launch(provider).exec(["ls", "-A", str(docs)]).output == ""
    assert launch().exec(["ls", "-A", str(docs)]).output != ""


def test_root_is_root_inside(launch, namespace):
    environment = launch()
    result = environment.exec(
        "useradd -m -u 1000 somebody && su somebody -c 'id -un' && touch /usr/bin/new /etc/new && id -u"
    )
    if "ordinary" in namespace.describe():
        assert result.exit_code == 0
    else:
        assert result.output == "somebody\n0\n"
    assert not Path("/usr/bin/new").exists()
    assert not Path("/etc/new").exists()


def test_devices_and_shared_memory(launch):
    environment = launch()
    command = "echo x >/dev/null && head -c 8 /dev/urandom | wc -c && echo y >/dev/shm/y && cat /dev/fd/0 </dev/shm/y"
    assert environment.exec(command).output == "8\ny\n"
    assert (
        environment.exec(["python3", "-c", "import os; os.openpty(); import multiprocessing as m; m.Lock()"]).exit_code
        == 0
    )
    assert environment.exec("ls /sys").output == ""


def test_host_network_is_reachable(launch):
    server = http.server.HTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
    threading.Thread(target=server.handle_request, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_address[1]}/nothing"
    code = f"import urllib.request as u, urllib.error as e\ntry: u.urlopen({url!r})\nexcept e.HTTPError as x: print(x)"
    try:
        assert launch().exec(["python3", "-c", code]).output.startswith("HTTP Error 404")
    finally:
        server.server_close()


def test_exec_prefix(launch):
    environment = launch(workdir="/app", variables={"A": "b"})
    environment.exec("echo inside >file")
    words = [*environment.exec_prefix().split(), "sh", "-c", "pwd; cat file; env"]
    result = subprocess.run(words, capture_output=True, text=True, check=False)
    assert result.stdout.startswith("/app\ninside\n"), result
    assert "VIRTUAL_ENV" not in result.stdout


# Cleanup.

HOLDER = """
import sys, time
from pytest_harbor.environment import StartRequest
from pytest_harbor.environment.namespace import NamespaceProvider
from pytest_harbor.image import Image
provider = NamespaceProvider()
image = Image("debian:12", "present", provider.find_image("debian:12"))
environment = provider.start(image, StartRequest(name=sys.argv[1], task="t/t", run="r"))
environment.exec("setsid sleep 888 >/dev/null 2>&1 & true")
print(environment.pid, flush=True)
time.sleep(600)
"""


def _hold(name):
    process = subprocess.Popen([sys.executable, "-c", HOLDER, name], stdout=subprocess.PIPE, text=True)
    return process, int(process.stdout.readline())


def _wait_until(condition, problem):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, problem
        time.sleep(0.02)


def test_environment_ends_with_its_owner(namespace, own_cache):
    name = f"{NAME}-{secrets.token_hex(5)}"
    owner, pid = _hold(name)
    directory = own_cache / "pytest-harbor/namespace/t" / name
    assert directory.is_dir()
    owner.kill()
    owner.communicate()
    # It stops and cleans up on its own; no later run is needed.
    _wait_until(lambda: not directory.exists() and not Path(f"/proc/{pid}").exists(), "it is still running")


def test_next_run_removes_leftovers(namespace, own_cache):
    name = f"{NAME}-{secrets.token_hex(5)}"
    owner, pid = _hold(name)
    directory = own_cache / "pytest-harbor/namespace/t" / name
    groups = json.loads((directory / "owner.json").read_text())["groups"]
    os.kill(pid, signal.SIGKILL)
    owner.kill()
    owner.communicate()
    assert directory.is_dir()
    assert namespace.remove_owned("dead") == [name]
    assert not directory.exists()
    assert not [group for group in groups if Path(group).exists()]


def test_restart_after_kill(launch):
    environment = launch()
    environment.exec("echo kept >/root/file")
    os.kill(processes_of(environment.pid)[-1], signal.SIGKILL)
    _wait_until(lambda: not environment.is_running(), "it is still running")
    environment.restart()
    assert environment.exec("cat /root/file").output == "kept\n"


def test_many_environments_leave_nothing(launch, own_cache):
    def left():
        groups = list(Path("/sys/fs/cgroup").glob(f"**/pytest-harbor-{NAME}-*"))
        return (
            sorted((own_cache / "pytest-harbor/namespace/t").iterdir()),
            _mounts(),
            groups,
            _descendants(),
        )

    rounds = int(os.environ.get("HARBOR_TEST_ROUNDS", "10"))
    before = left()
    for _ in range(rounds):
        environment = launch()
        environment.exec("mkdir -p /deep/er; setsid sleep 999 >/dev/null 2>&1 & chmod 0 /deep")
        environment.stop()
    assert left() == before


def _descendants():
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            name, _, rest = path.read_text().partition("(")[2].rpartition(")")
            if int(rest.split()[1]) == os.getpid():
                found.append(name)
    return found


def test_stop_removes_paths_beyond_path_max(launch, own_cache):
    environment = launch()
    code = "import os\nos.chdir('/tmp')\nfor _ in range(3000):\n os.mkdir('d'); os.chdir('d')"
    assert environment.exec(["python3", "-c", code]).exit_code == 0
    environment.stop()
    assert not (own_cache / "pytest-harbor/namespace/t" / environment.name).exists()
