"""The smallest set of policies that still fails: as a part of a failure's text, and as a file for kubectl."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from netproof.model.history import Cell
from netproof.report.matrix import flow_name
from netproof.report.text import count, indented, line, plain, seconds


@dataclass(frozen=True, slots=True)
class Counterexample:
    """Policies whose namespaces are the world's letters, and one flow that is not as they say.

    `labels` says which labels matter and who has them. `whole`: every smaller set was tried; else the tries or the time were used up.
    """

    policies: tuple[Mapping[str, Any], ...]
    cell: Cell
    labels: Sequence[str]
    tries: int
    seconds: float
    whole: bool

    def text(self) -> str:
        """For people."""
        policies = "---\n".join(self._documents())
        return "\n\n".join([f"the smallest that still fails: {self._size()}", indented(policies.rstrip(), "    "), "\n".join(self._flow())])

    def yaml(self) -> str:
        """For `kubectl apply`, where namespaces of these names have pods of these labels; what must be known stands above as comments."""
        comments = [f"# {text}" for text in [self._size(), *(text.strip() for text in self._flow())]]
        return "\n".join([*comments, *(f"---\n{document}" for document in self._documents())])

    def _documents(self) -> list[str]:
        return [plain(yaml.safe_dump(dict(policy), sort_keys=False, width=120)) for policy in self.policies]

    def _size(self) -> str:
        rules = sum(len(policy["spec"].get(section) or ()) for policy in self.policies for section in ("ingress", "egress"))
        effort = f"{count(self.tries, 'try', 'tries')} in {seconds(self.seconds)}"
        end = "nothing more can be left out" if self.whole else "more could perhaps be left out: the tries were used up"
        return f"{count(len(self.policies), 'policy', 'policies')}, {count(rules, 'rule')} ({effort}; {end})"

    def _flow(self) -> list[str]:
        why = [f"    rule: {line(self.cell.expected.why)}"] if self.cell.expected.why else []
        labels = [f"    labels: {line('; '.join(self.labels))}"] if self.labels else []
        return [f"{self.cell.expected.decision} expected, seen: {line(self.cell.seen)}", f"    {flow_name(self.cell)}", *why, *labels]
