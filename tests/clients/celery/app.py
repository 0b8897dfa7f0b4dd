"""The Celery application of the tests: its worker is `python -m celery -A app worker`."""

import os
import time

from celery import Celery
from kombu import Exchange, Queue

QUORUM = os.environ.get("QUEUE_TYPE") == "quorum"
DIRECTORY = os.environ["TASKS_DIRECTORY"]

CLASSIC_QUEUES = [
    Queue("celery", Exchange("celery"), "celery"),
    Queue("urgent", Exchange("celery"), "urgent", queue_arguments={"x-max-priority": 10}),
]
# What is delayed in the broker is routed by topic.
QUORUM_QUEUES = [
    Queue("celery", Exchange("celery", "topic"), "celery", queue_arguments={"x-queue-type": "quorum"}),
]

app = Celery("app", broker=f"amqp://guest:guest@127.0.0.1:{os.environ['AMQP_PORT']}//", backend="rpc://")
app.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=2,
    worker_cancel_long_running_tasks_on_connection_loss=False,
    # A task is published when the broker has it on the disk.
    broker_transport_options={"confirm_publish": True, "confirm_timeout": 10},
    broker_connection_retry_on_startup=True,
    task_default_queue="celery",
    task_queues=QUORUM_QUEUES if QUORUM else CLASSIC_QUEUES,
)


def record(name):
    """A line in the file of this name: time, process."""
    with open(os.path.join(DIRECTORY, str(name)), "a") as file:
        file.write(f"{time.time()} {os.getpid()}\n")


@app.task
def add(x, y):
    return x + y


@app.task
def note(name, seconds=0.0):
    """Works for as long and leaves a trace at its end."""
    record(f"{name}.begun")
    time.sleep(seconds)
    record(name)


@app.task(bind=True, max_retries=3)
def third_time_lucky(self):
    record("tries")
    if self.request.retries < 2:
        raise self.retry(countdown=0.2)
    return self.request.retries


@app.task(bind=True)
def redelivered(self, name):
    """Gives a first delivery back."""
    from celery.exceptions import Reject

    record(name)
    if not self.request.delivery_info["redelivered"]:
        raise Reject("not yet", requeue=True)
    return True
