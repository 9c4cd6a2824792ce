"""Users of an endpoint."""

import base64
import json
import random
import threading
import time
from collections import Counter

import requests
from helpers import encode, noise_poster

POSTERS = [encode(noise_poster(number, 92, 138)) for number in range(32)]


class Users:
    """Send posters all the time, and note how each request ended."""

    def __init__(self, url, count=6, posters=POSTERS):
        self.url, self.seen, self._end = url, [], threading.Event()
        self._posters = posters
        self._threads = [threading.Thread(target=self._go, args=(n,)) for n in range(count)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._end.set()
        for thread in self._threads:
            thread.join()

    def _go(self, number):
        draw = random.Random(number)
        client = requests.Session()
        while not self._end.is_set():
            image = base64.b64encode(draw.choice(self._posters)).decode()
            body = json.dumps({"instances": [{"image": {"b64": image}}]})
            try:
                answer = client.post(f"{self.url}/v1/models/poster-genre:predict", body, timeout=30)
                version = answer.json()["predictions"][0]["model_version"] if answer.ok else ""
                self.seen.append((time.time(), answer.status_code, version))
            except requests.RequestException as error:
                self.seen.append((time.time(), type(error).__name__, ""))
            time.sleep(draw.uniform(0.02, 0.06))

    def statuses(self, since=0.0):
        return Counter(status for moment, status, _ in self.seen if moment >= since)

    def versions(self):
        return Counter(version for _, _, version in self.seen if version)
