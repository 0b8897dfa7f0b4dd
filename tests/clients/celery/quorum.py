"""Queues of type quorum, for which Celery keeps countdowns in the broker: 28 levels of queues that expire into the next."""

import time

from story import Worker, eventually, restart_broker, times

from app import add, app, note

with Worker("one") as worker:
    assert add.delay(2, 3).get(timeout=20) == 5
    assert app.control.inspect(limit=1, timeout=20).ping() == {worker.name: {"ok": "pong"}}
    begin = time.time()
    for seconds in (1, 3, 6):
        note.apply_async((f"later-{seconds}",), countdown=seconds)
    with app.connection_for_read() as connection:
        # In the broker, not in the worker: one of the levels holds it.
        level = connection.default_channel.queue_declare("celery_delayed_2", passive=True)
        assert level.message_count == 1, level
    assert not app.control.inspect(limit=1, timeout=20).scheduled()[worker.name]
    for seconds in (1, 3, 6):
        (when,) = eventually(lambda: times(f"later-{seconds}"), f"{seconds} s later")
        assert seconds - 0.2 < when - begin < seconds + 20, (seconds, when - begin)
    # A delayed task outlives the broker.
    begin = time.time()
    note.apply_async(("after the restart",), countdown=4)
    restart_broker()
    (when,) = eventually(lambda: times("after the restart"), "the task after the restart")
    assert when - begin > 3.8, when - begin
    worker.stop()
