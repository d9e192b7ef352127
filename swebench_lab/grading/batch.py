"""Batch: one function over many items on threads, under a progress bar, stopped at once together with its sandboxes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TypeVar

from swebench_lab.grading.execution.boxes import OpenBoxes

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def batch(
    items: Sequence[_Item],
    work: Callable[[_Item, OpenBoxes], _Result],
    status: Callable[[_Result], str],
    name: str,
    workers: int,
    progress: bool = True,
) -> Iterator[tuple[int, _Result]]:
    """Yield (index, result) as results come.

    Args:
        items: What is worked on.
        work: What is done to each; it must add the sandboxes that it opens to the OpenBoxes it is given.
        status: What a result counts as on the bar.
        name: The bar's title, and the name of the threads.
        workers: How many items are worked on at once.
        progress: Whether a bar with the counts of each status is shown.
    """
    from tqdm.auto import tqdm

    counts: Counter[str] = Counter()
    boxes = OpenBoxes()
    pool = ThreadPoolExecutor(max(1, min(workers, len(items))), name)
    try:
        with tqdm(total=len(items), desc=name, unit="task", disable=not progress) as bar:
            waiting = {pool.submit(work, item, boxes): i for i, item in enumerate(items)}
            for future in as_completed(waiting):
                result = future.result()
                counts[status(result)] += 1
                bar.set_postfix(counts, refresh=False)
                bar.update()
                yield waiting[future], result
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        boxes.close()  # some are open only when the batch was stopped early: else all tests have come to their end
        pool.shutdown(wait=True)
