#!/usr/bin/env python3
"""Answers to an investigator's questions, taken from raw audit logs without Piperoll.

Reads the files as their vendors describe them; never reads a mapping's TOML, shares no code with the program nor with
`mapping_counts.py`. Standard library only; `.gz` through gzip, `.zst` through the `zstd` command.

    raw_answers.py --question NAME FILE..

CloudTrail
    accounts            all events by account
    roles-assumed       who took which role
    client-callers      who called with the program --client, from --since on and before --until
    refused-calls       by account and error code
    logins-without-mfa  at the console, and whether the session they came from had one
    outside-regions     by account and region, but for each --region
    buckets-touched     by account, bucket and call
    by-actor by-session by-credential by-source_ip by-region by-action by-reason by-client
Windows
    domains             all events by the machines' domain
    logs-cleared        1102 of the Security log, 104 of the others
    logons-refused      4625, with account, who asked, source and status
    by-logon            what belongs to each logon session
    by-address          what came from each address
Kubernetes (--tenant is the cluster of events that name none)
    clusters            all events by cluster
    calls               who called what of which object, and how it ended
    roles-changed       the same of changes of roles and bindings
    by-who

A line counts once: events are known by tenant and id, or by their content where they have no id of their own, and the
first in the order of the files stays. Lines without time, tenant or who and what are no events.

Prints a list of rows in order, the last three columns of which are how many events, the first and the last of them.
The questions by-… print an object of such lists, whose rows are tenant, events, failures, denied, first, last.
Several --question about one kind of log read the files once, and print an object of the answers.
"""

import argparse
import collections
import datetime
import gzip
import json
import re
import subprocess
import sys

UUID = re.compile(r"[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}", re.IGNORECASE)
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
MOMENT = re.compile(r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:\.(\d+))?(Z|[+-]\d\d:\d\d)?", re.IGNORECASE)

# What was done, to whom it belongs and how it ended; `raw` is the record itself.
Event = collections.namedtuple("Event", "tenant own time outcome raw")


class NoEvent(Exception):
    """The line lacks what an event needs."""


def see(record, path):
    """What stands at a path such as `a/b/0`, as text; numbers as they were written. Empty where there is none."""
    for step in path.split("/"):
        if isinstance(record, dict):
            record = record.get(step)
        elif isinstance(record, list) and step.isdigit() and int(step) < len(record):
            record = record[int(step)]
        else:
            return ""
    if isinstance(record, bool):
        return "true" if record else "false"
    return record if isinstance(record, str) else ""


def first_of(*texts):
    return next((text for text in texts if text), "")


def moment(stated, zoned=False):
    """A time in UTC, with microseconds; the zone may have to be said."""
    found = MOMENT.fullmatch(stated)
    if not found or (zoned and not found[4]):
        raise NoEvent("time")
    day, clock, fraction, zone = found.groups()
    try:
        at = datetime.datetime.fromisoformat(f"{day}T{clock}.{(fraction or '')[:6]:0<6}")
    except ValueError:
        raise NoEvent("time") from None
    if zone and zone.upper() != "Z":
        hours, minutes = int(zone[1:3]), int(zone[4:])
        away = datetime.timedelta(hours=hours, minutes=minutes)
        at = at - away if zone[0] == "+" else at + away
    return at.isoformat(timespec="microseconds") + "Z"


def tenant_of(*candidates):
    name = first_of(*candidates).lower()
    if not NAME.fullmatch(name):
        raise NoEvent("tenant")
    return name


def need(text, what):
    if not text:
        raise NoEvent(what)
    return text


def lines_of(paths):
    for path in paths:
        if path.endswith(".gz"):
            with gzip.open(path) as file:
                blob = file.read()
        elif path.endswith(".zst"):
            blob = subprocess.run(["zstd", "-dcq", path], check=True, stdout=subprocess.PIPE).stdout
        else:
            with open(path, "rb") as file:
                blob = file.read()
        yield from (line for line in map(bytes.strip, blob.split(b"\n")) if line)


def refuse(word):
    raise ValueError(word)


def stored(read, paths, given):
    """The events of the files, each once."""
    seen = set()
    for line in lines_of(paths):
        try:
            record = json.loads(line, parse_int=str, parse_float=str, parse_constant=refuse)
            event = read(record, given) if isinstance(record, dict) else None
        except (ValueError, NoEvent):
            continue
        known = event and (event.tenant, event.own or line)
        if known and known not in seen:
            seen.add(known)
            yield event


# --- AWS CloudTrail: docs.aws.amazon.com, "CloudTrail record contents" ---------------------------------

REFUSED = re.compile("AccessDenied|UnauthorizedOperation|UnauthorizedAccess|NotAuthorized|Forbidden")
AWS_FAULT = re.compile("InternalError|InternalFailure|ServiceUnavailable")


def cloudtrail(record, given):
    when = first_of(*(see(record, name) for name in ("eventTime", "@timestamp", "p_event_time")))
    account = tenant_of(see(record, "recipientAccountId"), see(record, "userIdentity/accountId"), given)
    need(see(record, "eventSource") and see(record, "eventName"), "action")
    need(first_of(*(see(record, "userIdentity/" + name) for name in ("type", "arn", "invokedBy"))), "actor")
    own = see(record, "eventID")
    return Event(account, own if UUID.fullmatch(own) else "", moment(when), aws_outcome(record), record)


def aws_outcome(record):
    login, error = see(record, "responseElements/ConsoleLogin"), see(record, "errorCode")
    if login:
        return "success" if login == "Success" else "failure"
    if REFUSED.search(error):
        return "denied"
    if AWS_FAULT.search(error):
        return "error"
    return "failure" if error or see(record, "errorMessage") else "success"


def principal(record):
    who = ("arn", "principalId", "invokedBy", "accountId")
    return first_of(*(see(record, "userIdentity/" + name) for name in who))


def client(record):
    """The calling program and its version: the user agent's first word. S3 puts the agent into square brackets.

    Browsers all say the same there, and AWS's services give their address.
    """
    named = see(record, "userAgent").removeprefix("[").removesuffix("]").split(" ")[0]
    return "" if named.startswith("Mozilla") or named.endswith(".amazonaws.com") else named


def aws_action(record):
    return see(record, "eventSource").removesuffix(".amazonaws.com") + "." + see(record, "eventName")


def roles_assumed(event, _):
    record = event.raw
    if see(record, "eventSource") == "sts.amazonaws.com" and see(record, "eventName").startswith("AssumeRole"):
        if event.outcome == "success":
            named = first_of(principal(record), see(record, "userIdentity/userName"))
            yield event.tenant, named, see(record, "requestParameters/roleArn")


def client_callers(event, asked):
    if client(event.raw) == asked.client and asked.since <= event.time < asked.until:
        yield event.tenant, first_of(principal(event.raw), see(event.raw, "userIdentity/userName"))


def refused_calls(event, _):
    if REFUSED.search(see(event.raw, "errorCode")):
        yield event.tenant, see(event.raw, "errorCode")


def logins_without_mfa(event, _):
    record = event.raw
    is_login = see(record, "eventName") == "ConsoleLogin" and see(record, "responseElements/ConsoleLogin") == "Success"
    if is_login and see(record, "additionalEventData/MFAUsed") == "No":
        in_session = see(record, "userIdentity/sessionContext/attributes/mfaAuthenticated")
        yield event.tenant, first_of(principal(record), see(record, "userIdentity/userName")), in_session


def outside_regions(event, asked):
    region = see(event.raw, "awsRegion")
    if region and region not in asked.region:
        yield event.tenant, region


def buckets_touched(event, _):
    bucket = see(event.raw, "requestParameters/bucketName")
    if bucket:
        yield event.tenant, bucket, aws_action(event.raw)


AWS_BY = {
    "actor": principal,
    "session": lambda record: see(record, "userIdentity/principalId").partition(":")[2],
    "credential": lambda record: see(record, "userIdentity/accessKeyId"),
    "source_ip": lambda record: see(record, "sourceIPAddress"),
    "region": lambda record: see(record, "awsRegion"),
    "action": aws_action,
    "reason": lambda record: see(record, "errorCode"),
    "client": client,
}

# --- Windows event logs: learn.microsoft.com, the pages of the events ----------------------------------

# What these logs write where there is nothing to say.
NOTHING = ("-", "N/A")
# Events of a logon itself, which belong to the session that begins or ends.
OF_LOGONS = ("4624", "4627", "4634", "4647")


def told(record, *paths):
    return first_of(*(text for text in (see(record, path) for path in paths) if text not in NOTHING))


def windows(record, given):
    machine = told(record, "Hostname", "Computer", "DeviceName")
    account = told(record, "AccountDomain")
    tenant = tenant_of(
        machine.partition(".")[2],
        told(record, "AADTenantId", "OrganizationId", "RawEventData/OrganizationId"),
        account if "." in account else "",
        told(record, "AccountUpn").partition("@")[2],
        told(record, "UserId").partition("@")[2],
        given,
    )
    when = told(record, "@timestamp", "TimeCreated")
    if not when:
        when = told(record, "ActivityDateTime", "TimeGenerated", "Timestamp")
    need(told(record, "EventID", "Operation", "ActivityDisplayName", "ActionType"), "action")
    return Event(tenant, windows_id(record), moment(when), windows_outcome(record), record)


def windows_id(record):
    """Records count within one log of one machine, and anew when the machine was set up anew."""
    place = [told(record, name) for name in ("Hostname", "Channel", "RecordNumber")]
    if all(place):
        return "/".join(place + [told(record, "EventTime")])
    for name, ids in (("EventOriginId", UUID), ("Id", None), ("OfficeId", UUID), ("ReportId", None)):
        own = told(record, name)
        if own and (not ids or ids.fullmatch(own)):
            return own
    return ""


def windows_outcome(record):
    """Two bits of the Security log's keywords say how it ended; other logs do not."""
    number = told(record, "EventID")
    if told(record, "SourceName", "EventSourceName", "Source") == "Microsoft-Windows-Security-Auditing":
        if number in ("4625", "5152", "5157"):
            return "failure" if number == "4625" else "denied"
    keywords = told(record, "Keywords")
    bits = int(keywords, 0) if re.fullmatch(r"-?\d+|0x[0-9a-fA-F]+", keywords) else 0
    if told(record, "EventType") == "AUDIT_FAILURE" or bits >> 52 & 1:
        return "failure"
    return "success" if told(record, "EventType") == "AUDIT_SUCCESS" or bits >> 53 & 1 else "unknown"


def account_of(record, side):
    """An account as its domain, a backslash and its name."""
    name, domain = told(record, side + "UserName"), told(record, side + "DomainName")
    return f"{domain}\\{name}" if name and domain else name


def logs_cleared(event, _):
    record, number = event.raw, told(event.raw, "EventID")
    writer = told(record, "SourceName", "EventSourceName", "Source")
    if (number == "104" and writer == "Microsoft-Windows-Eventlog") or (
        number == "1102" and writer in ("Microsoft-Windows-Eventlog", "Microsoft-Windows-Security-Auditing")
    ):
        who = account_of(record, "Subject")
        yield event.tenant, told(record, "Hostname", "Computer"), who, told(record, "Message").split("\r\n")[0]


def logons_refused(event, _):
    record = event.raw
    if told(record, "EventID") == "4625" and told(record, "Channel", "EventLog") == "Security":
        source = told(record, "IpAddress")
        reason = [status for status in (told(record, "SubStatus"), told(record, "Status")) if status != "0x0"]
        tried, station = account_of(record, "Target"), told(record, "WorkstationName")
        yield event.tenant, tried, account_of(record, "Subject"), source, station, first_of(*reason)


def logon(record):
    """The logon session that an event belongs to: of a logon the one it makes or ends, else that of who acted."""
    made = told(record, "TargetLogonId") if told(record, "EventID") in OF_LOGONS else ""
    return first_of(made, told(record, "SubjectLogonId"), told(record, "LogonId"))


def address(record):
    """Where it came from. Logons write an IPv4 address as IPv6 does (::ffff:192.0.2.1), the firewall and Sysmon not."""
    places = ("IpAddress", "SourceIp", "SourceAddress", "IPAddress", "Client_IPAddress")
    return told(record, *places).removeprefix("::ffff:")


# --- Kubernetes audit events: kubernetes.io, audit.k8s.io/v1; AKS and GKE around them ------------------

CHANGES = ("create", "update", "patch", "delete", "deletecollection")
OF_ROLES = ("roles", "clusterroles", "rolebindings", "clusterrolebindings")


def kubernetes(record, given):
    try:
        inner = json.loads(see(record, "properties/log") or "null", parse_int=str, parse_float=str)
    except ValueError:
        inner = None
    said = lambda path: see(inner, path) or see(record, path)
    times = ("requestReceivedTimestamp", "stageTimestamp", "timestamp", "time", "p_event_time")
    when = moment(first_of(*map(said, times)))
    azure = said("resourceId").lower().rpartition("/managedclusters/")[2]
    labels = "resource/labels/"
    cluster = tenant_of(
        said("p_source_label"), said(labels + "cluster_name"), azure, said(labels + "project_id"), given
    )
    google = "protoPayload/authenticationInfo/"
    who = first_of(*map(said, ("user/username", google + "principalEmail", google + "principalSubject")))
    need(who, "actor")
    what, verb = kubernetes_call(said)
    need(what and verb, "action")
    audit = said("auditID") if UUID.fullmatch(said("auditID")) else ""
    own = "/".join(filter(None, (audit, said("stage")))) if audit else ""
    if not own and said("insertId") and said("timestamp"):
        own = said("insertId") + "/" + said("timestamp")
    call = {"who": who, "what": what, "verb": verb, "object": kubernetes_object(said)}
    return Event(cluster, own, when, kubernetes_outcome(said), call)


def kubernetes_call(said):
    """Which kind of object (with a subresource behind a dot), and what was done with it."""
    kind, verb = said("objectRef/resource"), said("verb")
    if verb and (kind or said("requestURI")):
        return ".".join(filter(None, (kind or "url", said("objectRef/subresource") if kind else ""))), verb
    # io.k8s.<group>.<version>.<kind>.<verb>; a few methods have no version.
    method = said("protoPayload/methodName")
    versioned = re.search(r"\.v\d+(?:(?:alpha|beta)\d+)?\.(.+\..+)$", method)
    what, _, verb = (versioned[1] if versioned else method).rpartition(".")
    return what, verb


def kubernetes_object(said):
    name, space = said("objectRef/name"), said("objectRef/namespace")
    if name:
        return f"{space}/{name}" if space else name
    return said("protoPayload/resourceName") or said("requestURI")


def kubernetes_outcome(said):
    code, rpc = said("responseStatus/code"), said("protoPayload/status/code")
    if code:
        ends = {"4": "failure", "5": "error"}
        return "denied" if code in ("401", "403") else ends.get(code[0], "success")
    if said("annotations/authorization.k8s.io/decision") == "forbid":
        return "denied"
    if rpc:
        # Google's codes: 7 is PERMISSION_DENIED, 16 UNAUTHENTICATED, 13 INTERNAL, 14 UNAVAILABLE.
        ends = {"0": "success", "7": "denied", "16": "denied", "13": "error", "14": "error"}
        return ends.get(rpc, "failure")
    return "denied" if said("protoPayload/authorizationInfo/0/granted") == "false" else "unknown"


def calls(event, _):
    call = event.raw
    yield event.tenant, call["who"], call["what"], call["verb"], call["object"], event.outcome


def roles_changed(event, asked):
    if event.raw["what"] in OF_ROLES and event.raw["verb"] in CHANGES:
        yield from calls(event, asked)


# --- answering -----------------------------------------------------------------------------------------

def all_events(event, _):
    yield (event.tenant,)


ROWS = {
    "accounts": (cloudtrail, all_events),
    "domains": (windows, all_events),
    "clusters": (kubernetes, all_events),
    "roles-assumed": (cloudtrail, roles_assumed),
    "client-callers": (cloudtrail, client_callers),
    "refused-calls": (cloudtrail, refused_calls),
    "logins-without-mfa": (cloudtrail, logins_without_mfa),
    "outside-regions": (cloudtrail, outside_regions),
    "buckets-touched": (cloudtrail, buckets_touched),
    "logs-cleared": (windows, logs_cleared),
    "logons-refused": (windows, logons_refused),
    "roles-changed": (kubernetes, roles_changed),
    "calls": (kubernetes, calls),
}
BY = {"by-" + name: (cloudtrail, value) for name, value in AWS_BY.items()}
BY |= {"by-logon": (windows, logon), "by-address": (windows, address), "by-who": (kubernetes, lambda call: call["who"])}
KNOWN = ROWS | BY


def rows(times):
    return [[*row, len(at), min(at), max(at)] for row, at in sorted(times.items())]


def by_value(found):
    return {named: [touched(*one) for one in sorted(tenants.items())] for named, tenants in sorted(found.items())}


def touched(tenant, ended):
    times, outcomes = zip(*ended)
    failures = sum(outcome in ("failure", "error") for outcome in outcomes)
    return [tenant, len(times), failures, outcomes.count("denied"), min(times), max(times)]


def answers(asked):
    """Each question's answer, out of one reading of the files."""
    read = KNOWN[asked.question[0]][0]
    times = {question: collections.defaultdict(list) for question in asked.question if question in ROWS}
    ended = {
        question: collections.defaultdict(lambda: collections.defaultdict(list))
        for question in asked.question
        if question in BY
    }
    for event in stored(read, asked.files, asked.tenant):
        for question, found in times.items():
            for row in KNOWN[question][1](event, asked):
                found[row].append(event.time)
        for question, found in ended.items():
            value = KNOWN[question][1](event.raw)
            if value:
                found[value][event.tenant].append((event.time, event.outcome))
    answered = {question: rows(found) for question, found in times.items()}
    return answered | {question: by_value(found) for question, found in ended.items()}


def main():
    parser = argparse.ArgumentParser(description="answers from raw audit logs, without Piperoll")
    parser.add_argument("--question", action="append", required=True, choices=sorted(KNOWN), help="one, or several")
    parser.add_argument("--tenant", default="", help="of lines that name none")
    parser.add_argument("--client", default="", help="a calling program with its version")
    parser.add_argument("--since", default="0", help="from then on, in UTC with microseconds")
    parser.add_argument("--until", default="9", help="before then, so written too")
    parser.add_argument("--region", action="append", default=[], help="where calls belong; may be given again")
    parser.add_argument("files", nargs="+")
    asked = parser.parse_args()
    if len({KNOWN[question][0] for question in asked.question}) > 1:
        parser.error("questions together have to be about logs of one kind")
    found = answers(asked)
    answer = found if len(asked.question) > 1 else found[asked.question[0]]
    json.dump(answer, sys.stdout, indent=1, ensure_ascii=False)
    print()


if __name__ == "__main__":
    main()
