"""Reads a request per line, {"headers", "body_base64", "secret"}, and prints a verdict per line.

The signature is judged by the official Standard Webhooks library, the event is read by the CloudEvents SDK.
"""

import base64
import json
import sys

from cloudevents.core.bindings.http import HTTPMessage, from_http_event
from standardwebhooks import Webhook


def verify(headers, body, secret):
    try:
        Webhook(secret).verify(body, headers, json_parse=False)
        return {"ok": True, "error": None}
    except Exception as error:  # each of the library's errors is a verdict
        return {"ok": False, "error": f"{type(error).__name__}: {error}"}


def shown(data, content_type):
    """JSON, a text, or anything else in base64, by its type."""
    if isinstance(data, str) and not content_type.startswith("text/") and "json" not in content_type:
        data = data.encode()  # the SDK takes any bytes for a text that could be one
    if not isinstance(data, bytes):
        return data
    if "json" in content_type:
        return json.loads(data) if data else None
    return data.decode() if content_type.startswith("text/") else base64.b64encode(data).decode() or None


def parse(headers, body):
    try:
        event = from_http_event(HTTPMessage(headers=headers, body=body))
    except Exception as error:
        return {"event": None, "event_error": f"{type(error).__name__}: {error}"}
    time = event.get_time()
    fields = {
        "id": event.get_id(),
        "type": event.get_type(),
        "source": event.get_source(),
        "time": time and int(time.timestamp()),
        "datacontenttype": event.get_datacontenttype(),
        "tenantid": event.get_extension("tenantid"),
        "data": shown(event.get_data(), event.get_datacontenttype() or ""),
    }
    return {"event": fields, "event_error": None}


for line in sys.stdin:
    request = json.loads(line)
    raw = base64.b64decode(request["body_base64"])
    print(json.dumps(verify(request["headers"], raw, request["secret"]) | parse(request["headers"], raw)), flush=True)
