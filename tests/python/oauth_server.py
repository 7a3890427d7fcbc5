"""A server of OAuth 2.0 on loopback: django-oauth-toolkit with two clients, until standard input ends.

Prints a line of JSON: its origin, and for each client an id, a secret and, for one, a refresh token that is good once: whoever sends it a second
time ends the whole grant, as RFC 9700 (4.14.2) says. The arguments are a folder, and how many seconds an access token is good for.

    /o/token/            the token endpoint
    /accounts?who=NAME   what a bearer of a good token may read; NAME is noted with the token
    /revoke              forgets all access tokens
    /delay?seconds=N     from now on the answer of the token endpoint is on its way for so long: what it tells of is done by then
    /seen                what came, as JSON: the requests of tokens with their answers, and the calls of /accounts
"""

import base64
import io
import json
import os
import sys
import threading
import time
from datetime import timedelta
from socketserver import ThreadingMixIn
from urllib.parse import parse_qs, unquote_plus

import django
from django.conf import settings

folder, seconds = sys.argv[1], int(sys.argv[2])
settings.configure(
    SECRET_KEY="of this test alone",
    ALLOWED_HOSTS=["127.0.0.1"],
    ROOT_URLCONF=__name__,
    USE_TZ=True,
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": os.path.join(folder, "oauth.db"),
            # Writers wait for one another.
            "OPTIONS": {"timeout": 60, "transaction_mode": "IMMEDIATE", "init_command": "PRAGMA journal_mode = WAL"},
        }
    },
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "oauth2_provider"],
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    OAUTH2_PROVIDER={
        "ACCESS_TOKEN_EXPIRE_SECONDS": seconds,
        "ROTATE_REFRESH_TOKEN": True,
        "REFRESH_TOKEN_GRACE_PERIOD_SECONDS": 0,
        "REFRESH_TOKEN_REUSE_PROTECTION": True,
        "SCOPES": {"accounts": "Read accounts"},
        "PKCE_REQUIRED": False,
        "ALLOWED_REDIRECT_URI_SCHEMES": ["http"],
    },
    LOGGING_CONFIG=None,
)
django.setup()

from django.contrib.auth.models import User  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.http import HttpResponse, JsonResponse  # noqa: E402
from django.urls import include, path  # noqa: E402
from django.utils import timezone  # noqa: E402
from oauth2_provider.models import AccessToken, Application, RefreshToken  # noqa: E402
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server  # noqa: E402

exchanges, calls = [], []
# Until when an access token is good. Not what the database says, where the one before goes with the refresh token that it came with: most servers'
# tokens stay good until they end, and a test of one package must not be about another's.
good_until = {}
delay = 0.0


def accounts(request):
    """What a bearer of a good token may read."""
    word, _, token = request.headers.get("Authorization", "").partition(" ")
    good = word == "Bearer" and time.monotonic() < good_until.get(token, 0)
    status = 200 if good else 401
    calls.append({"who": request.GET.get("who"), "token": token, "status": status})
    return HttpResponse("accounts" if good else "no token", status=status)


def revoke(request):
    """Forgets all access tokens."""
    AccessToken.objects.all().delete()
    good_until.clear()
    return HttpResponse("done")


def slow(request):
    """Makes the token endpoint's answers late."""
    global delay
    delay = float(request.GET["seconds"])
    return HttpResponse("done")


def seen(request):
    """What came so far."""
    return JsonResponse({"exchanges": exchanges, "calls": calls})


one_at_a_time = threading.Lock()


def noted(application):
    """The application, which notes what is asked of its token endpoint and what it answers."""

    def called(environ, start_response):
        if environ["PATH_INFO"] != "/o/token/":
            return application(environ, start_response)
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(body)
        asked = {name: values[0] for name, values in parse_qs(body.decode()).items()}
        basic = base64.b64decode(environ.get("HTTP_AUTHORIZATION", "").partition(" ")[2]).decode()
        heads = []
        # Also what it looks up before its transaction: of two that send the same refresh token one is the first.
        with one_at_a_time:
            answering = application(environ, lambda status, fields, *_: heads.append((status, fields)))
            answer = b"".join(answering)
            answering.close()
            status = int(heads[0][0].split(" ")[0])
            told = json.loads(answer) if status == 200 else {}
            exchanges.append(
                {
                    "grant": asked.get("grant_type"),
                    "client_id": unquote_plus(basic.partition(":")[0]) or asked.get("client_id"),
                    "sent": asked.get("refresh_token"),
                    "status": status,
                    "token": told.get("access_token"),
                    "next": told.get("refresh_token"),
                }
            )
            if status == 200:
                good_until[told["access_token"]] = time.monotonic() + seconds
        time.sleep(delay)
        start_response(*heads[0])
        return [answer]

    return called


urlpatterns = [
    path("o/", include("oauth2_provider.urls", namespace="oauth2_provider")),
    path("accounts", accounts),
    path("revoke", revoke),
    path("delay", slow),
    path("seen", seen),
]

call_command("migrate", verbosity=0)
user = User.objects.create_user("ada")
common = {"client_type": Application.CLIENT_CONFIDENTIAL, "user": user, "hash_client_secret": False}
machine = Application.objects.create(
    name="machine", client_secret="machine-s3cret-1f0e", authorization_grant_type=Application.GRANT_CLIENT_CREDENTIALS, **common
)
person = Application.objects.create(
    name="person",
    client_secret="person-s3cret-9a7b",
    authorization_grant_type=Application.GRANT_AUTHORIZATION_CODE,
    redirect_uris="http://127.0.0.1/",
    **common,
)
first = AccessToken.objects.create(
    user=user, token="first-4cc3ss", application=person, expires=timezone.now() + timedelta(seconds=60), scope="accounts"
)
RefreshToken.objects.create(user=user, token="first-r3fr3sh-t0k3n", application=person, access_token=first)


class Quiet(WSGIRequestHandler):
    def log_message(self, *args):
        pass


class Threaded(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    # Connections that wait to be accepted: tests send dozens at once.
    request_queue_size = 256


application = noted(get_wsgi_application())
server = make_server("127.0.0.1", 0, application, server_class=Threaded, handler_class=Quiet)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(
    json.dumps(
        {
            "origin": f"http://127.0.0.1:{server.server_port}",
            "machine": {"client_id": machine.client_id, "client_secret": "machine-s3cret-1f0e"},
            "person": {
                "client_id": person.client_id,
                "client_secret": "person-s3cret-9a7b",
                "refresh_token": "first-r3fr3sh-t0k3n",
            },
        }
    ),
    flush=True,
)
sys.stdin.read()
