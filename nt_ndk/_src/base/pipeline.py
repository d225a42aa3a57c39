# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""Tasks in threads, each of which hands something on to the next."""

import collections
from concurrent import futures
from typing import Any, Callable, Iterable, Iterator

import threadpoolctl

_BLAS = threadpoolctl.ThreadpoolController().select(user_api='blas')

# `task(receive, hand_on)`: waits for what the task before it hands on, and
# hands on something itself.
Task = Callable[[Callable[[], Any], Callable[[Any], None]], Any]


def run(tasks: Iterable[Task], first: Any, at_once: int) -> Iterator[Any]:
  """Runs tasks, with the same results in any number of threads.

  Args:
    tasks: are made in the calling thread, one more than there are threads.
    first: what the first task receives.
    at_once: number of threads, which share those of BLAS; with one, the calling
      thread runs everything itself.

  Yields:
    What the tasks return, in their order.
  """
  if at_once == 1:
    handed = [first]
    for task in tasks:
      yield task(handed.pop, handed.append)
    return

  def one(task, before, after):
    try:
      return task(before.result, after.set_result)
    except BaseException as error:
      if not after.done():
        after.set_exception(error)  # So that the next task does not wait.
      raise

  before: futures.Future[Any] = futures.Future()
  before.set_result(first)
  running: collections.deque[futures.Future[Any]] = collections.deque()
  threads = max((b.num_threads for b in _BLAS.lib_controllers), default=1)
  with futures.ThreadPoolExecutor(at_once) as pool, _BLAS.limit(
      limits=max(1, threads // at_once)):
    for task in tasks:
      if len(running) == at_once:
        yield running.popleft().result()
      after: futures.Future[Any] = futures.Future()
      running.append(pool.submit(one, task, before, after))
      before = after
    while running:
      yield running.popleft().result()
