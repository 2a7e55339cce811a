"""What a scenario can name, and where it lives: kind -> {name: "module:attribute"}.

Nothing is imported here, so that listing costs nothing. A file of your own needs no line in it.
"""

from __future__ import annotations

CATALOGUE: dict[str, dict[str, str]] = {
    "algorithms": {},
    "problems": {},
    "datasets": {},
    "splits": {},
    "topologies": {},
    "mixings": {},
}
