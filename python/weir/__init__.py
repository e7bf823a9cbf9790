# SPDX-License-Identifier: Apache-2.0
"""Workers of a weir hub, for any WSGI application, and its clients; the standard library is all it needs.

    python3 -m weir.worker --hub 127.0.0.1:8081 --service hello module:app

or from a program: weir.Worker(app, services=["hello"], slots=4).run().

An application finds its job (a weir.Job) as environ["weir.job"], and sends a request on to another service
with weir.forward. Reading order: connection.py (a connection to a hub, turned around), wsgi.py (one job),
slots.py (the threads that hold the connections), worker.py (the command line and its processes).

Topics and durable jobs: weir.Client, see client.py.
"""

from .client import Client
from .slots import Worker
from .wsgi import Cancelled, Job, forward

__all__ = ["Cancelled", "Client", "Job", "Worker", "forward"]
