"""A server of OAuth 2.0 on loopback: django-oauth-toolkit with two clients, until standard input ends.

Prints a line of JSON: its origin, and for each client an id, a secret and, for one, a refresh token that is good once. The argument is how many
seconds an access token is good for.
"""

import json
import os
import sys
import threading
from datetime import timedelta

import django
from django.conf import settings

folder, seconds = sys.argv[1], int(sys.argv[2])
settings.configure(
    SECRET_KEY="of this test alone",
    ALLOWED_HOSTS=["127.0.0.1"],
    ROOT_URLCONF=__name__,
    USE_TZ=True,
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.path.join(folder, "oauth.db")}},
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "oauth2_provider"],
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    OAUTH2_PROVIDER={
        "ACCESS_TOKEN_EXPIRE_SECONDS": seconds,
        "ROTATE_REFRESH_TOKEN": True,
        "REFRESH_TOKEN_GRACE_PERIOD_SECONDS": 0,
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
from django.http import HttpResponse  # noqa: E402
from django.urls import include, path  # noqa: E402
from django.utils import timezone  # noqa: E402
from oauth2_provider.models import AccessToken, Application, RefreshToken  # noqa: E402
from wsgiref.simple_server import WSGIRequestHandler, make_server  # noqa: E402


def accounts(request):
    """What a bearer of a good token may read."""
    word, _, token = request.headers.get("Authorization", "").partition(" ")
    found = AccessToken.objects.filter(token=token).first()
    good = word == "Bearer" and found is not None and found.is_valid(["accounts"])
    return HttpResponse("accounts" if good else "no token", status=200 if good else 401)


def revoke(request):
    """Forgets all access tokens."""
    AccessToken.objects.all().delete()
    return HttpResponse("done")


urlpatterns = [
    path("o/", include("oauth2_provider.urls", namespace="oauth2_provider")),
    path("accounts", accounts),
    path("revoke", revoke),
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


server = make_server("127.0.0.1", 0, get_wsgi_application(), handler_class=Quiet)
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
