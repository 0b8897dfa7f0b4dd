"""200 tasks with acks_late: a worker killed with SIGKILL, the broker killed with kill -9, and no task is lost."""

import contextlib
import threading

from story import Worker, eventually, restart_broker, times

from app import app, note

TASKS = 200


def done():
    return sum(bool(times(f"task-{n}")) for n in range(TASKS))


def publish(numbers):
    for n in numbers:
        note.apply_async((f"task-{n}", 0.05), retry=True, retry_policy={"max_retries": 50, "interval_max": 0.5})


def messages(queue):
    with app.connection_for_read() as connection:
        return connection.default_channel.queue_declare(queue, passive=True).message_count


with contextlib.ExitStack() as stack:
    publish(range(TASKS // 2))
    first = stack.enter_context(Worker("first"))
    stack.enter_context(Worker("second"))
    eventually(lambda: done() >= 20, "some tasks are done")
    # Publishing goes on over everything that follows.
    publisher = threading.Thread(target=publish, args=(range(TASKS // 2, TASKS),))
    publisher.start()
    begun = [n for n in range(TASKS) if times(f"task-{n}.begun") and not times(f"task-{n}")]
    first.kill()
    before = done()
    restart_broker()
    assert before < TASKS, "the broker is killed while there is work"
    stack.enter_context(Worker("third"))
    publisher.join(60)
    assert not publisher.is_alive()
    eventually(lambda: done() == TASKS, f"all are done, and not {done()}", 90)
    runs = [len(times(f"task-{n}")) for n in range(TASKS)]
    assert min(runs) >= 1, runs
    for n in begun:
        assert times(f"task-{n}"), f"task {n} was begun by the worker that died"
    print(f"{before} done before the kill of the broker, {sum(runs)} runs of {TASKS} tasks")

# What was not acknowledged when its worker died is run once more; with that, nothing is left, and nothing comes back.
with Worker("last") as last:
    inspect = app.control.inspect([last.name], timeout=20)
    at_work = lambda: any((inspect.active()[last.name], inspect.reserved()[last.name]))
    eventually(lambda: messages("celery") == 0 and not at_work(), "the queue drains")
    last.stop()
assert messages("celery") == 0, messages("celery")
restart_broker()
assert messages("celery") == 0, messages("celery")
assert min(len(times(f"task-{n}")) for n in range(TASKS)) >= 1
