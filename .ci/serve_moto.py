"""Serves moto's DynamoDB on loopback, one request at a time.

Its transactions are not isolated: a cancelled one puts back a copy of all tables, and with it undoes or keeps what
others wrote meanwhile. What races is our own code between its requests, so nothing is lost by taking turns.
"""

import sys

from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import run_simple

run_simple("127.0.0.1", int(sys.argv[1]), DomainDispatcherApplication(create_backend_app), threaded=False)
