"""Replaces the pools of asgiref and its tests, and the default executor of event loops."""

import asgiref.sync
from flask import Flask
from stand_ins import ThreadStandIn, replace_pools

# A function that one pool runs submits to others, so all of them need one app.
replace_pools(shared_app=Flask(__name__))
asgiref.sync.ThreadPoolExecutor = ThreadStandIn
asgiref.sync.SyncToAsync.single_thread_executor = ThreadStandIn(max_workers=1)
