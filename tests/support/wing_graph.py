"""Which wing of graft imports which, as the Mermaid diagram in docs/architecture.md.

`python -m tests.support.wing_graph` writes the diagram anew (`make format` calls it); a test compares it with the code.
"""

import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from graft.core.atomic import write_text
from graft.core.source_code import ROOT, imported_names, is_module

PAGE = ROOT / "docs" / "architecture.md"
BLOCK = re.compile(r"(?<=```mermaid\n).*?(?=```)", re.DOTALL)
Graph = Mapping[str, frozenset[str]]


def wing_graph(root: Path = ROOT) -> Graph:
    """Return for every wing the wings that its modules import, inside functions too."""
    found: dict[str, set[str]] = defaultdict(set)
    for guide in (root / "graft").glob("*/__init__.py"):
        wing = guide.parent.name
        for file in guide.parent.glob("*.py"):
            names = {
                name.split(".")[1] for name in imported_names(file) if is_module(name, root) and name.count(".") > 1
            }
            found[wing] |= names - {wing}
    return {wing: frozenset(below) for wing, below in found.items()}


def reach(graph: Graph, wing: str) -> frozenset[str]:
    """Return all wings that one imports, directly or through others."""
    below = graph[wing]
    return below.union(*(reach(graph, other) for other in below)) if below else below


def reduced(graph: Graph) -> Graph:
    """Return the same without the arrows that a longer way stands for."""
    return {
        wing: frozenset(one for one in below if not any(one in reach(graph, other) for other in below - {one}))
        for wing, below in graph.items()
    }


def mermaid(graph: Graph) -> str:
    """Return the reduced graph as a flowchart, wings that others stand on first."""
    order = sorted(graph, key=lambda wing: (len(reach(graph, wing)), wing))
    arrows = [f"    {wing} --> {below}" for wing in order for below in sorted(reduced(graph)[wing], key=order.index)]
    return "\n".join(["flowchart BT", *arrows]) + "\n"


if __name__ == "__main__":
    write_text(PAGE, BLOCK.sub(lambda _: mermaid(wing_graph()), PAGE.read_text(encoding="utf-8"), count=1))
