"""Run /app/slugify.py on unseen titles, group by group and all at once; reward 1 only if every slug is right."""

import json
import subprocess
import sys
import time
from pathlib import Path

LOGS = Path("/logs/verifier")
CASES = {
    "examples": [
        ("Crème brûlée à la carte", "creme-brulee-a-la-carte"),
        ("  Straße № 7 — Łódź!  ", "strasse-no-7-lodz"),
        ("Smørrebrød & Æbleskiver", "smorrebrod-aebleskiver"),
        ("100 % naïve", "100-naive"),
    ],
    "plain": [
        ("Release notes: v2.10.3-rc1", "release-notes-v2-10-3-rc1"),
        ("snake_case and kebab-case", "snake-case-and-kebab-case"),
        ("---", "untitled"),
        ("Already-a-slug", "already-a-slug"),
    ],
    "letters": [
        ("GROẞE STRAẞE", "grosse-strasse"),
        ("Œuvres complètes", "oeuvres-completes"),
        ("Þorlákur Đorđević", "thorlakur-dordevic"),
        ("PŘÍLIŠ ŽLUŤOUČKÝ KŮŇ", "prilis-zlutoucky-kun"),
        ("İstanbul", "istanbul"),
        ("Ångström", "angstrom"),
    ],
    "unicode forms": [
        ("Cafe\u0301 Zu\u0308rich", "cafe-zurich"),
        ("\ufb01le \ufb02ow", "file-flow"),
        ("\uff21\uff22\uff23\uff11\uff12", "abc12"),
        ("x\u00b2 + y\u00b3", "x2-y3"),
        ("a\u00a0b\u2009c\u3000d", "a-b-c-d"),
    ],
    "nothing left": [("", "untitled"), ("„—“", "untitled"), ("東京", "untitled"), ("\u0301", "untitled")],
}


def run(titles: list[str]) -> list[str]:
    text = "".join(title + "\n" for title in titles).encode()
    done = subprocess.run([sys.executable, "/app/slugify.py"], input=text, capture_output=True, timeout=5, cwd="/")
    if done.returncode:
        raise ValueError(f"exit code {done.returncode}: {done.stderr.decode(errors='replace')[-500:]}")
    return done.stdout.decode().removesuffix("\n").split("\n")


def check(pairs: list[tuple[str, str]]) -> str:
    """Return what is wrong, or an empty string."""
    try:
        found = run([title for title, _ in pairs])
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        return str(error)
    if len(found) != len(pairs):
        return f"{len(pairs)} titles gave {len(found)} lines"
    wrong = [f"{title!r}: expected {slug!r}, found {got!r}" for (title, slug), got in zip(pairs, found) if slug != got]
    return "; ".join(wrong)


def main() -> None:
    start = time.time()
    groups = CASES | {"all, reversed": [pair for pairs in CASES.values() for pair in pairs][::-1]}
    tests = []
    for name, pairs in groups.items():
        began = time.time()
        message = check(pairs)
        status = "failed" if message else "passed"
        duration = int((time.time() - began) * 1000)
        tests.append({"name": name, "status": status, "duration": duration, "message": message})
        print(status, name, message)
    passed = sum(test["status"] == "passed" for test in tests)
    summary = {"tests": len(tests), "passed": passed, "failed": len(tests) - passed}
    summary |= {"pending": 0, "skipped": 0, "other": 0, "start": int(start * 1000), "stop": int(time.time() * 1000)}
    report = {"results": {"tool": {"name": "slugify"}, "summary": summary, "tests": tests}}
    (LOGS / "ctrf.json").write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    (LOGS / "reward.txt").write_text("1\n" if passed == len(tests) else "0\n")


main()
