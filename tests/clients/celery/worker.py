"""A worker's life: results, countdown and eta, retries, rejects, priorities, control commands."""

import datetime
import time

from story import Worker, eventually, times

from app import add, app, note, redelivered, third_time_lucky

with Worker("one") as worker:
    # Results come back by a queue of the client's own.
    assert add.delay(2, 3).get(timeout=20) == 5
    assert [result.get(timeout=20) for result in [add.delay(n, n) for n in range(20)]] == [2 * n for n in range(20)]

    # A countdown and an eta hold a task back in the worker, unacknowledged, beyond its prefetch.
    begin = time.time()
    for n in range(10):
        note.apply_async((f"countdown-{n}",), countdown=1.5)
    note.apply_async(("eta",), eta=datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=1.5))
    assert add.delay(1, 1).get(timeout=20) == 2, "others go ahead"
    for name in ["eta", *(f"countdown-{n}" for n in range(10))]:
        (when,) = eventually(lambda: times(name), f"{name} is run")
        assert 1.4 < when - begin < 20, (name, when - begin)

    assert third_time_lucky.delay().get(timeout=20) == 2
    assert len(times("tries")) == 3
    assert redelivered.delay("given back").get(timeout=20) is True
    assert len(times("given back")) == 2

    # Control: broadcasts by a fanout exchange, answers by a queue of the client's own.
    inspect = app.control.inspect(limit=1, timeout=20)
    assert inspect.ping() == {worker.name: {"ok": "pong"}}
    assert "app.add" in inspect.registered()[worker.name]
    assert inspect.stats()[worker.name]["broker"]["transport"] == "amqp"
    assert [queue["name"] for queue in inspect.active_queues()[worker.name]] == ["celery", "urgent"]
    revoked = time.time()
    late = note.apply_async(("revoked",), countdown=4)
    eventually(lambda: inspect.scheduled()[worker.name], "the task is scheduled")
    app.control.revoke(late.id)
    eventually(lambda: late.id in inspect.revoked()[worker.name], "the task is revoked")
    assert app.control.cancel_consumer("urgent", reply=True, limit=1, timeout=20) == [{worker.name: {"ok": "no longer consuming from urgent"}}]
    for priority in (0, 5, 9):
        note.apply_async((f"priority-{priority}",), queue="urgent", priority=priority)
    assert app.control.add_consumer("urgent", reply=True, limit=1, timeout=20) == [{worker.name: {"ok": "add consumer urgent"}}]
    eventually(lambda: all(times(f"priority-{priority}") for priority in (0, 5, 9)), "all priorities")
    time.sleep(max(0.0, revoked + 4.5 - time.time()))
    assert not times("revoked") and not times("revoked.begun")
    assert app.control.purge() == 0
    app.control.shutdown()
    assert worker.process.wait(30) == 0

# The order of priorities shows when one process takes one at a time.
for priority in (0, 5, 9):
    note.apply_async((f"order-{priority}",), queue="urgent", priority=priority)
with Worker("two", "-Q", "urgent", "-O", "fair", "--prefetch-multiplier", "1", pool=1) as worker:
    eventually(lambda: all(times(f"order-{priority}") for priority in (0, 5, 9)), "all in order")
    begun = [times(f"order-{priority}.begun")[0] for priority in (9, 5, 0)]
    assert begun == sorted(begun), begun

# A task of a worker that dies by SIGKILL is run again by the next one.
note.delay("long", 5)
with Worker("three") as worker:
    eventually(lambda: times("long.begun"), "it is begun")
    worker.kill()
assert not times("long")
with Worker("four") as worker:
    eventually(lambda: times("long"), "it is run again")
    assert len(times("long.begun")) == 2
    worker.stop()
with app.connection_for_read() as connection:
    assert connection.default_channel.queue_declare("celery", passive=True).message_count == 0
