"""A worker process that misbehaves in the way that the bundle's name says."""

import os
import sys
import time

line = sys.stdin.buffer.readline()
if b"segfault" in line:
    os.kill(os.getpid(), 11)
if b"hang" in line:
    time.sleep(600)
if b"silent" in line:
    os._exit(3)
print("the engine said something", file=sys.stderr, flush=True)
os._exit(1)
