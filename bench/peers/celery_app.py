"""Celery peer, the worker side: RabbitMQ as broker, Redis for results, three priority queues, late acks."""
import json
import os
import time

from celery import Celery
from kombu import Exchange, Queue

REDIS_URL = f"redis://127.0.0.1:{os.environ['REDIS_PORT']}/0"
DATA = os.environ["DATA_DIR"]
os.makedirs(f"{DATA}/results", exist_ok=True)

gpu = Exchange("gpu", type="direct")
app = Celery("peer", broker=f"amqp://guest:guest@127.0.0.1:{os.environ['AMQP_PORT']}//", backend=REDIS_URL)
app.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    task_serializer="json",
    result_serializer="json",
    accept_content=["json"],
    task_queues=[Queue(f"gpu-{p}", gpu, routing_key=p, durable=True) for p in ("high", "normal", "low")],
    task_default_queue="gpu-normal",
    task_default_exchange="gpu",
    task_default_routing_key="normal",
    result_expires=3600,
    # Off by default in Celery: without it a submit is not confirmed by the broker before 202 is sent.
    broker_transport_options={"confirm_publish": os.environ["CONFIRM"] == "1"},
)


@app.task(name="run", bind=True)
def run(self, model, input):
    if input.get("sleep_ms"):
        time.sleep(input["sleep_ms"] / 1000)
    result = {"task_id": self.request.id, "model": model, "echo": input}
    with open(f"{DATA}/results/{self.request.id}.json", "w") as file:
        json.dump(result, file)
    return result
