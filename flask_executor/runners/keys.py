"""The keys of jobs: each belongs to one job of this process, or of all with ``EXECUTOR_STORE``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from ..exceptions import DuplicateKey, StoreUnavailable
from ..jobs.collection import claim, duplicate, forget, put_back, set_elsewhere, take_done
from ..threads.turns import Turns

if TYPE_CHECKING:
    from concurrent.futures import Future

    from ..jobs.collection import FutureCollection
    from ..jobs.future import JobFuture
    from ..jobs.item import WorkItem
    from ..jobs.options import OnDuplicate
    from ..records.recorder import Recorder


class Keys:
    """Keeps keys for jobs that are being submitted."""

    def __init__(self, futures: FutureCollection) -> None:
        self._futures = futures
        self._turns = Turns()

    def claim(
        self,
        recorder: Recorder,
        item: WorkItem,
        future: JobFuture[Any],
        on_duplicate: OnDuplicate,
        *,
        may_be_refused: bool,
    ) -> JobFuture[Any] | None:
        """Keep the key of *item* for it; or return the future that has the key, to be used instead.

        :param on_duplicate: see `Executor.options`
        :param may_be_refused: whether to free the key if the job does not come into the queue
        :raises DuplicateKey: if another job has the key, as *on_duplicate* says
        """
        set_elsewhere(self._futures, recorder.store)
        recorder.store.check_key(item.key)
        if not recorder.store.is_shared:
            return claim(
                self._futures, item.key, future, on_duplicate, may_be_refused=may_be_refused
            )
        # Another thread must not be given a future whose job another process may still refuse.
        with self._turns.take(item.key):
            # The database decides whether the key of a job that has ended is free: another process
            # may have freed it.
            ended = take_done(self._futures, item.key)
            is_taken_here = ended is not None and on_duplicate != "replace"
            is_claimed = False
            try:
                found: Future[Any] | None = claim(
                    self._futures, item.key, future, on_duplicate, may_be_refused=may_be_refused
                )
                if found is None:
                    found = recorder.claim(item, on_duplicate, needs_answer=is_taken_here)
                    is_claimed = found is None
            except StoreUnavailable:
                if on_duplicate != "return":
                    whose = f"that of the job {getattr(ended, 'name', '')!r}"
                    raise duplicate(item.key, whose, on_duplicate) from None
                found = ended
            except BaseException as error:
                if not isinstance(error, DuplicateKey):  # It is Ctrl-C: the key may be taken.
                    recorder.store.release(item.id)
                raise
            finally:
                if not is_claimed:
                    forget(self._futures, item.key, item.id)
                    if ended is not None:
                        put_back(self._futures, item.key, ended)
            if ended is not None and _id_of(ended) == _id_of(found):
                found = ended
            return cast("JobFuture[Any] | None", found)

    def give_back(self, recorder: Recorder, item: WorkItem) -> None:
        """Free the key of a job whose submission has failed, if the job has it."""
        if forget(self._futures, item.key, item.id):
            recorder.store.release(item.id)


def _id_of(future: Future[Any] | None) -> object:
    return getattr(future, "id", None)
