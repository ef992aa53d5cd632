"""Generated ignore files, and a build context to try them on."""

from __future__ import annotations

import random
from pathlib import Path

# A path that ends with a slash is an empty directory.
TREE = (
    ".env",
    ".git/config",
    ".git/objects/ab/c",
    "A.TXT",
    "Data/Raw.csv",
    "README.md",
    "a",
    "a.txt",
    "a[1].txt",
    "a*b",
    "back\\slash",
    "build/lib/x.py",
    "build/out.o",
    "café.txt",
    "data/README.md",
    "data/big.bin",
    "data/deep/er/raw.csv",
    "data/deep/raw.csv",
    "data/empty/",
    "dots..txt",
    "!bang",
    "#hash",
    "node_modules/m/index.js",
    "node_modules/m/README.md",
    "pkg/__init__.py",
    "pkg/mod/app.py",
    "pkg/mod/app.pyc",
    "pkg/mod/deep/a.py",
    "space name.txt",
    "src/a/a/a.c",
    "src/a/b.c",
    "src/b/a.h",
    "tests/test_a.py",
    "x-y_z",
    "x{2}",
    "xx",
)
_WORDS = (
    *("a", "data", "Data", "DATA", "deep", "pkg", "mod", "src", "build", "README.md", "raw.csv", "a.txt", "app.py"),
    *("node_modules", ".git", "*", "*", "**", "**", "*.py", "*.md", "*.txt", "?", "??", "*a*", "a?*", "[ab]", "[a-c]*"),
    *("[^a]*", "[!a]*", "[A-Z]*", "[]a]", "[a-", "[[:lower:]]", "[*]", "a\\*b", "\\a", "\\!bang", "\\#hash", ".."),
    *("a\\[1\\].txt", "back\\\\slash", "dots..txt", ".", "caf?.txt", "caf*", "space name.txt", "x{2}*", "*{2}", "\\*"),
    *("xx|a*", "***", "a**", "**.md", "*.", ".*", "x-y[_]z", "[x-x]x", "!bang", "#hash", "^a*", "*$"),
)


def write_tree(root: Path) -> None:
    """Write the build context."""
    for name in TREE:
        path = root / name
        (path if name.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
        if not name.endswith("/"):
            path.write_text("x", encoding="utf-8")


def ignore_file(generator: random.Random) -> str:
    """Return an ignore file of a few patterns."""
    lines = []
    if generator.random() < 0.3:
        lines.append(generator.choice(["*", "**", "**/*", "*/**", "data", "src/**"]))
    for _ in range(generator.randint(1, 4)):
        pattern = "/".join(generator.choices(_WORDS, k=generator.choice([1, 1, 2, 2, 3])))
        before = generator.choice([""] * 5 + ["/", "./", "../", "**/", "//", "  ", "\t"])
        after = generator.choice([""] * 6 + ["/", "/.", "/**", "/*", "  ", "\r", "//"])
        exception = generator.choice(["", "", "!", "! ", "!/", "!!"][: 3 if generator.random() < 0.9 else 6])
        lines.append(f"{exception}{before}{pattern}{after}")
    if generator.random() < 0.1:
        lines.insert(0, generator.choice(["# comment", "", " # not a comment", "#"]))
    text = "\n".join(lines) + generator.choice(["\n", ""])
    return f"\ufeff{text}" if generator.random() < 0.03 else text
