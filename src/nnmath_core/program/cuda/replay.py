"""Kernels that follow each other as a CUDA graph, recorded when they run a second time on the same memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

__all__ = ["Segment"]

MOST_GRAPHS = 8


class Segment:
    """Launches that may be one graph; what they depend on is the addresses of some slots, and numbers."""

    def __init__(
        self,
        launches: Sequence[Callable[[Any], None]],
        slots: Sequence[int],
        numbers: Sequence[int],
    ) -> None:
        self.launches, self.slots, self.numbers = tuple(launches), tuple(slots), tuple(numbers)

    def __call__(self, run: Any) -> None:
        """Queue the launches, by a graph where there is one for this memory."""
        if not run.graphs or len(self.launches) < 2:
            self._queue(run)
            return
        key = (*(run.bases[s] for s in self.slots), *(run.leaves[i] for i in self.numbers))
        graphs = run.space.graphs.setdefault(self, {})
        graph = graphs.get(key)
        if graph is not None:
            graph.launch()
            return
        if key not in graphs:  # the first time loads what has to be loaded
            while len(graphs) >= MOST_GRAPHS:
                del graphs[next(iter(graphs))]
            graphs[key] = None
            self._queue(run)
            return
        graphs[key] = graph = self._recorded(run)
        graph.launch()

    def _queue(self, run: Any) -> None:
        for launch in self.launches:
            launch(run)

    def _recorded(self, run: Any) -> Any:
        """The graph of the launches, which are not done now; the default stream cannot be recorded."""
        stream = run.plan.stream_to_record()
        with stream:
            stream.begin_capture()
            try:
                self._queue(run)
            finally:
                graph = stream.end_capture()
        return graph
