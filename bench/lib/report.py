"""The figures as one table, and as a chart."""

import datetime
import re
import statistics
from html import escape

PLAIN = "nginx"


def table(result):
    columns = [*result["cpu"]]
    head = ["proxy", *(f"{name}, µs" for name in columns)]
    if "latency" in result:
        head.append("added at 2,000/s: p50 / p99 / p99.9, µs")
    if "memory" in result:
        head.append("RSS idle / 1,000 / 10,000 waiting, MiB")
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for name, title in result["proxies"].items():
        cells = [title, *(_cpu(result["cpu"][column], name) for column in columns)]
        if "latency" in result:
            cells.append(" / ".join(f"{figure:+.0f}" for figure in result["latency"][name]))
        if "memory" in result:
            cells.append(" / ".join(f"{figure:.1f}" for figure in result["memory"][name]))
        lines.append("| " + " | ".join(cells) + " |")
    facts = [f"sidecar binary {result['binary'] / 2**20:.2f} MiB"]
    if "first" in result:
        facts.append(f"start to first proxied request {result['first'] * 1000:.1f} ms")
    return "\n".join(lines) + "\n\n" + "; ".join(facts) + "."


def _cpu(rounds, name):
    if name not in rounds:
        return "–"
    own = statistics.median(rounds[name])
    if PLAIN not in rounds or name == PLAIN:
        return f"{own:.1f}"
    ratio = statistics.median(mine / plain for mine, plain in zip(rounds[name], rounds[PLAIN], strict=True))
    return f"{own:.1f} ({ratio:.2f} ×)"


def write(root, result):
    docs, day = root / "docs", datetime.date.today().isoformat()
    block = f"<!-- figures: written by bench/run --write -->\n![CPU per request](images/benchmarks.svg)\n\n{table(result)}\n\nMeasured {day}; medians of {result['rounds']} rounds; × is to nginx as a plain proxy, in the same round.\n<!-- /figures -->"
    _replace(docs / "benchmarks.md", block)
    _replace(root / "README.md", f"<!-- figures: written by bench/run --write -->\n{summary(result)}\n<!-- /figures -->")
    (docs / "images").mkdir(exist_ok=True)
    (docs / "images" / "benchmarks.svg").write_text(chart(result))


def _replace(page, block):
    page.write_text(re.sub(r"<!-- figures.*?<!-- /figures -->", lambda _: block, page.read_text(), flags=re.DOTALL))


def summary(result):
    """The table for who reads no other page."""
    columns = [name for name in ("hot token", "HTTP/2", "every token new", "refused", "64 KB") if name in result["cpu"]]
    lines = ["| CPU of the proxy per request, µs | " + " | ".join(columns) + " | RSS with 10,000 idle connections |", "|" + "---|" * (len(columns) + 2)]
    for name, title in result["proxies"].items():
        figures = [f"{statistics.median(rounds[name]):.0f}" if name in (rounds := result["cpu"][column]) else "–" for column in columns]
        memory = f"{result['memory'][name][-1]:.0f} MiB" if "memory" in result else "–"
        lines.append("| " + " | ".join([title, *figures, memory]) + " |")
    return "\n".join(lines)


def chart(result):
    """CPU per request with one hot token, a bar for each proxy."""
    rounds = result["cpu"]["hot token"]
    bars = sorted((statistics.median(rounds[name]), title) for name, title in result["proxies"].items() if name in rounds)
    width, left, row = 800, 340, 30
    scale = (width - left - 80) / bars[-1][0]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {row * len(bars) + 44}" font-family="system-ui, sans-serif" font-size="13" role="img"'
        ' aria-label="CPU per authenticated request, by proxy">',
        "<style>text{fill:#333}.bar{fill:#9aa7bd}.own{fill:#2f5bd8}@media (prefers-color-scheme:dark){text{fill:#ddd}}</style>",
        '<text x="8" y="20" font-weight="600">CPU of the proxy per request, µs (one hot token, 64 connections)</text>',
    ]
    for number, (figure, title) in enumerate(bars):
        y = 36 + number * row
        kind = "own" if title.startswith("Cloakroom") else "bar"
        parts.append(f'<text x="{left - 8}" y="{y + 15}" text-anchor="end">{escape(title)}</text>')
        parts.append(f'<rect class="{kind}" x="{left}" y="{y}" width="{figure * scale:.1f}" height="20" rx="3"/>')
        parts.append(f'<text x="{left + figure * scale + 6:.1f}" y="{y + 15}">{figure:.1f}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"
