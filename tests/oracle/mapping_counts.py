#!/usr/bin/env python3
"""What loading an audit log with `piperoll ingest --map NAME` should come to, counted without Piperoll.

Reads the raw files and knows the source formats from their vendors' descriptions; it never reads a mapping's
TOML and shares no code with the program, so that equal counts mean something. Standard library only; `.gz`
through gzip, `.zst` through the `zstd` command, or one unpacked file with `--stdin`.

    mapping_counts.py --map cloudtrail FILE..            counts of all files, loaded in this order into one store
    mapping_counts.py --map okta --tenant acme FILE..    for events that name no tenant

Prints one JSON object: lines read; mapped (an event came out); rejected by the first field that fails, in the
order time, tenant, action, actor.type; then what the ledger does with mapped events that share tenant and id:
duplicates (same line again), conflicts (same id, another line), stored (the rest); and the stored events by
tenant, by action and by outcome.
"""

import argparse
import collections
import datetime
import gzip
import json
import re
import subprocess
import sys

GUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
TENANT = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
CLOCK = re.compile(r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)([.,]\d+)? ?([Zz]|[+-]\d\d:?\d\d)?")


class Rejected(Exception):
    """Carries the field that no event can be without."""


def dig(event, *path):
    """The value at a path of names and indexes, or None."""
    for step in path:
        if isinstance(event, dict):
            event = event.get(step)
        elif isinstance(event, list) and isinstance(step, int) and step < len(event):
            event = event[step]
        else:
            return None
    return event


def text(value):
    """A scalar as text; nothing for null, empty, objects and arrays."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Number):
        return str(value)
    return value or None if isinstance(value, str) else None


class Number(str):
    """A JSON number with its digits as written."""


def no_number(word):
    raise ValueError(word + " is no JSON")


def at(event, *path):
    return text(dig(event, *path))


def is_clock(value, zone_needed=False):
    found = CLOCK.fullmatch(value)
    if not found or (zone_needed and not found[8]):
        return False
    try:
        datetime.datetime(*(int(found[i]) for i in range(1, 7)))
    except ValueError:
        return False
    return True


def is_millis(value):
    return bool(re.fullmatch(r"-?\d{1,14}(\.\d+)?", value))


def check_time(candidates):
    """The first time that is stated has to be readable."""
    for value, readable in candidates:
        if value is not None:
            if readable(value):
                return
            break
    raise Rejected("time")


def check_tenant(found, given):
    tenant = (found or given or "").lower()
    if not TENANT.fullmatch(tenant):
        raise Rejected("tenant")
    return tenant


def dotted(value):
    noun, dot, verb = (value or "").rpartition(".")
    return value if dot and noun and verb else None


def check_action(value):
    if not dotted(value) or len(value.encode()) > 128:
        raise Rejected("action")
    return value


def guid(value):
    return value if value and GUID.fullmatch(value) else None


# --- AWS CloudTrail ------------------------------------------------------------------------------------


def cloudtrail(e, given):
    check_time([(at(e, "eventTime"), is_clock), (at(e, "@timestamp"), is_clock), (at(e, "p_event_time"), is_clock)])
    who = e.get("userIdentity") if isinstance(e.get("userIdentity"), dict) else {}
    tenant = check_tenant(at(e, "recipientAccountId") or at(who, "accountId"), given)
    source, name = at(e, "eventSource"), at(e, "eventName")
    if not source or not name:
        raise Rejected("action")
    action = check_action(source.split(".amazonaws.com")[0] + "." + name)
    # Somebody has to be named: a kind of identity, an ARN with a kind in it, or AWS itself.
    kinds = {"Root", "IAMUser", "FederatedUser", "SAMLUser", "WebIdentityUser", "IdentityCenterUser", "Directory", "Role", "AssumedRole", "AWSService", "AWSAccount", "Unknown"}
    arn = at(who, "arn") or ""
    named = (
        at(who, "type") in kinds
        or re.search(r":(assumed-role|federated-user|user)/|:root$", arn)
        or at(who, "accountId") in ("anonymous", "ANONYMOUS_PRINCIPAL")
        or at(e, "sessionCredentialFromConsole") == "true"
        or at(who, "invokedBy")
        or at(e, "eventType") == "AwsServiceEvent"
    )
    if not named:
        raise Rejected("actor.type")
    return tenant, guid(at(e, "eventID")), action, cloudtrail_outcome(e)


def cloudtrail_outcome(e):
    login, error = at(e, "responseElements", "ConsoleLogin"), at(e, "errorCode")
    if login in ("Success", "Failure"):
        return login.lower()
    if error:
        if re.search("AccessDenied|Unauthorized|NotAuthorized|Forbidden", error):
            return "denied"
        return "error" if re.search("InternalError|InternalFailure|ServiceUnavailable", error) else "failure"
    return "failure" if at(e, "errorMessage") else "success"


# --- Okta System Log -----------------------------------------------------------------------------------


def okta(e, given):
    check_time([(at(e, "published"), is_clock), (at(e, "p_event_time"), is_clock)])
    tenant = check_tenant(None, given)
    action = check_action(dotted(at(e, "eventType")) or dotted(at(e, "eventtype")))
    if not at(e, "actor", "type"):
        raise Rejected("actor.type")
    results = {"SUCCESS": "success", "ALLOW": "success", "FAILURE": "failure", "ABANDONED": "failure", "DENY": "denied", "RATE_LIMIT": "denied"}
    return tenant, guid(at(e, "uuid")), action, results.get(at(e, "outcome", "result"), "unknown")


# --- GitHub audit log ----------------------------------------------------------------------------------


def github(e, given):
    check_time([
        (at(e, "@timestamp"), lambda v: is_millis(v) or is_clock(v, True)),
        (at(e, "at_sign_timestamp"), is_clock),
        (at(e, "created_at"), lambda v: is_millis(v) or is_clock(v)),
        (at(e, "p_event_time"), is_clock),
    ])
    owner = lambda name: name.split("/")[0] if name and "/" in name and not name.startswith("/") else None
    tenant = check_tenant(at(e, "org") or at(e, "business") or owner(at(e, "repo")) or owner(at(e, "repository")), given)
    action = at(e, "action")
    action = check_action(dotted(action) or (action and "github." + action))
    ends = {"success": "success", "failure": "failure", "cancelled": "failure", "timed_out": "error"}
    return tenant, at(e, "_document_id"), action, ends.get(at(e, "conclusion"), "unknown")


# --- Kubernetes audit ----------------------------------------------------------------------------------


def kubernetes(e, given):
    """Plain events; AKS puts one as text into properties.log; GKE tells it in Cloud Audit Log's words."""
    try:
        inner = json.loads(dig(e, "properties", "log") or "", parse_int=Number, parse_float=Number)
    except (TypeError, ValueError):
        inner = None
    inner = inner if isinstance(inner, dict) else {}
    get = lambda *path: at(inner, *path) or at(e, *path)
    stated = ("requestReceivedTimestamp", "stageTimestamp", "timestamp", "time", "p_event_time")
    check_time([(get(name), is_clock) for name in stated])
    azure = re.search(r"/managedclusters/([^/]*)$", (get("resourceId") or "").lower())
    labels = lambda name: get("resource", "labels", name)
    tenant = check_tenant(get("p_source_label") or labels("cluster_name") or (azure and azure[1]) or labels("project_id"), given)
    action = check_action(kubernetes_action(get))
    if not (get("user", "username") or get("protoPayload", "authenticationInfo", "principalEmail") or get("protoPayload", "authenticationInfo", "principalSubject")):
        raise Rejected("actor.type")
    audit, stage = guid(get("auditID")), get("stage")
    name = f"{audit}/{stage}" if audit and stage else audit
    if not name and get("insertId") and get("timestamp"):
        name = get("insertId") + "/" + get("timestamp")
    return tenant, name, action, kubernetes_outcome(get)


def kubernetes_action(get):
    verb, what, sub = get("verb"), get("objectRef", "resource"), get("objectRef", "subresource")
    if verb and what:
        return ".".join(part for part in (what, sub, verb) if part)
    if verb and get("requestURI"):
        return "url." + verb
    method = get("protoPayload", "methodName")
    if method:
        # io.k8s.<group>.<version>.<resource>[.<subresource>].<verb>
        after = re.search(r"\.v\d+(?:(?:alpha|beta)\d+)?\.(.+\..+)$", method)
        return after[1] if after else method
    return None


def kubernetes_outcome(get):
    code = get("responseStatus", "code")
    if code and code[0] in "12345":
        if code in ("401", "403"):
            return "denied"
        return {"1": "success", "2": "success", "3": "success", "4": "failure", "5": "error"}[code[0]]
    if get("annotations", "authorization.k8s.io/decision") == "forbid":
        return "denied"
    rpc = get("protoPayload", "status", "code")
    if rpc:
        return {"0": "success", "7": "denied", "16": "denied", "13": "error", "14": "error"}.get(rpc, "failure")
    return "denied" if get("protoPayload", "authorizationInfo", 0, "granted") == "false" else "unknown"


# --- Windows event logs --------------------------------------------------------------------------------

# What Microsoft's event numbers mean, by the log's provider.
WINDOWS = {
    "Microsoft-Windows-Security-Auditing": """1100 log.stop|1102 log.clear|4608 system.start|4611 logon-process.register|4616 clock.change
        4624 4625 session.logon|4627 session.list-groups|4634 4647 session.logoff|4648 session.logon-explicit
        4656 4661 handle.request|4658 handle.close|4690 handle.duplicate|4657 registry.set
        4660 object.delete|4662 object.operate|4663 object.access|4670 permission.change|4672 privilege.assign|4673 4674 privilege.use
        4688 process.create|4689 process.exit|4695 secret.unprotect|4697 service.install
        4698 task.create|4699 task.delete|4700 task.enable|4701 task.disable|4702 task.update|4703 token.adjust
        4719 4907 audit-policy.change|4720 account.create|4722 account.enable|4725 account.disable|4726 account.delete|4738 account.update
        4740 account.lock|4767 account.unlock|4723 password.change|4724 password.reset
        4728 4732 4756 group.add-member|4729 4733 4757 group.remove-member
        4768 ticket.request-granting|4769 ticket.request-service|4770 ticket.renew|4771 ticket.preauthenticate|4776 credential.validate
        4797 account.query-password|4798 account.list-groups|4799 group.list-members|4957 firewall.skip-rule|5447 firewall.change-filter
        5058 key.access-file|5061 key.operate|5136 directory.change|5140 share.access|5145 share.check
        5152 packet.block|5156 connection.permit|5157 connection.block|5158 port.bind|5379 credential.read""",
    "Microsoft-Windows-Sysmon": """1 process.create|2 file.change-time|3 connection.open|4 sysmon.change-state|5 process.exit|6 driver.load|7 image.load
        8 thread.create-remote|9 disk.read-raw|10 process.access|11 file.create|12 registry.change|13 registry.set|14 registry.rename
        15 file.create-stream|16 sysmon.configure|17 pipe.create|18 pipe.connect|19 wmi.add-filter|20 wmi.add-consumer|21 wmi.bind
        22 name.query|23 26 file.delete|24 clipboard.change|25 process.tamper|28 file.block-shredding|29 file.detect-executable""",
    "Microsoft-Windows-PowerShell": """4103 powershell.execute|4104 powershell.load-script|4105 powershell.start-script|4106 powershell.stop-script""",
    "PowerShell": "400 powershell.start|403 powershell.stop|600 powershell.start-provider|800 powershell.execute",
    "Service Control Manager": "7023 service.fail|7034 service.crash|7036 service.change-state|7040 service.change-start|7045 service.install",
    "Microsoft-Windows-Eventlog": "104 1102 log.clear",
}
# Providers with a short name in actions for numbers that are not listed above.
SHORT = {"Microsoft-Windows-Security-Auditing": "security", "Microsoft-Windows-Sysmon": "sysmon", "Microsoft-Windows-PowerShell": "powershell", "PowerShell": "powershell", "Service Control Manager": "services", "Microsoft-Windows-Eventlog": "eventlog"}


def numbers(listing):
    for entry in re.split(r"[|\n]", listing):
        *ids, action = entry.split()
        for number in ids:
            yield number, action


ACTIONS = {(provider, number): action for provider, listing in WINDOWS.items() for number, action in numbers(listing)}


def slug(value):
    return re.sub(r"[^A-Za-z0-9_]+", "-", value).strip("-").lower()


def windows(e, given):
    get = lambda *path: (lambda v: None if v in ("-", "N/A") else v)(at(e, *path))
    zoned = lambda value: is_clock(value, True)
    check_time([(get("@timestamp"), is_clock), (get("TimeCreated"), is_clock), (get("ActivityDateTime"), zoned), (get("TimeGenerated"), zoned), (get("Timestamp"), zoned), (get("UtcTime"), is_clock)])
    after = lambda value, by: value.rpartition(by)[2] if value and by in value else None
    host = get("Hostname") or get("Computer") or get("DeviceName") or ""
    domain = get("AccountDomain")
    domain = domain if domain and "." in domain and TENANT.fullmatch(domain.lower()) else None
    directory = get("AADTenantId") or get("OrganizationId") or get("RawEventData", "OrganizationId")
    tenant = check_tenant(host.partition(".")[2] or directory or domain or after(get("AccountUpn"), "@") or after(get("UserId"), "@"), given)
    action = check_action(windows_action(get))
    # Every entry has an actor: an account, or where none is named the system that wrote it.
    return tenant, windows_id(get), action, windows_outcome(get)


def windows_action(get):
    number = get("EventID")
    if number:
        provider = get("SourceName") or get("EventSourceName") or get("Source")
        if not provider:
            return "windows.event-" + number
        return ACTIONS.get((provider, number)) or f"{SHORT.get(provider) or slug(provider)}.event-{number}"
    if get("OfficeWorkload") and get("Operation"):
        return get("OfficeWorkload") + "." + get("Operation")
    if get("ActivityDisplayName"):
        return "azuread." + slug(get("ActivityDisplayName"))
    return get("ActionType") and "defender." + slug(get("ActionType"))


def windows_id(get):
    record = [get(name) for name in ("Hostname", "Channel", "RecordNumber")]
    if all(record):
        own = "/".join(record + [get("EventTime")] if get("EventTime") else record)
        if len(own.encode()) <= 128:
            return own
    return guid(get("EventOriginId")) or get("Id") or guid(get("OfficeId")) or get("ReportId")


def windows_outcome(get):
    provider = get("SourceName") or get("EventSourceName") or get("Source")
    if provider == "Microsoft-Windows-Security-Auditing" and get("EventID") in ("5152", "5157", "4625"):
        return "failure" if get("EventID") == "4625" else "denied"
    if get("EventType") in ("AUDIT_SUCCESS", "AUDIT_FAILURE"):
        return get("EventType")[6:].lower()
    bits = get("Keywords")
    if bits and re.fullmatch(r"0x[0-9a-fA-F]+|-?\d+", bits):
        # The two audit bits of the keywords; the reserved top bit is set on every entry of the Security log.
        word = int(bits, 0) & (2**64 - 1)
        if word == 0x8020000000000000:
            return "success"
        if word == 0x8010000000000000:
            return "failure"
    audit = get("EventLevelName") or (get("Type") == "SecurityEvent" and {"8": "Audit Success", "16": "Audit Failure"}.get(get("Level")))
    if audit in ("Audit Success", "Audit Failure"):
        return audit[6:].lower()
    if get("Result") in ("success", "failure"):
        return get("Result")
    ended = get("ResultStatus") or get("RawEventData", "ResultStatus")
    return {"Succeeded": "success", "Failed": "failure"}.get(ended, "unknown")


# --- counting ------------------------------------------------------------------------------------------

SOURCES = {"cloudtrail": cloudtrail, "okta": okta, "github": github, "kubernetes": kubernetes, "windows": windows}


def unpacked(path):
    if path.endswith(".gz"):
        with gzip.open(path, "rb") as file:
            return file.read()
    if path.endswith(".zst"):
        return subprocess.run(["zstd", "-dcq", path], check=True, stdout=subprocess.PIPE).stdout
    with open(path, "rb") as file:
        return file.read()


def count(source, given, blobs):
    lines = mapped = duplicates = conflicts = 0
    rejected, tenants, actions, outcomes = (collections.Counter() for _ in range(4))
    first = {}
    for blob in blobs:
        for line in (raw.strip(b" \t\r\n") for raw in blob.split(b"\n")):
            if not line:
                continue
            lines += 1
            try:
                event = json.loads(line, parse_int=Number, parse_float=Number, parse_constant=no_number)
                if not isinstance(event, dict):
                    raise Rejected("line")
                tenant, own, action, outcome = source(event, given)
            except (ValueError, RecursionError):
                rejected["line"] += 1
                continue
            except Rejected as why:
                rejected[str(why)] += 1
                continue
            mapped += 1
            # An event without an id of its own is known by its content.
            key = (tenant, own or line)
            if key in first:
                duplicates += first[key] == line
                conflicts += first[key] != line
                continue
            first[key] = line
            tenants[tenant] += 1
            actions[action] += 1
            outcomes[outcome] += 1
    return {
        "lines": lines, "mapped": mapped, "rejected": dict(sorted(rejected.items())), "duplicates": duplicates, "conflicts": conflicts,
        "stored": len(first), "by_tenant": dict(sorted(tenants.items())), "by_action": dict(sorted(actions.items())), "by_outcome": dict(sorted(outcomes.items())),
    }


def main():
    parser = argparse.ArgumentParser(description="expected counts of an audit log, without Piperoll")
    parser.add_argument("--map", required=True, choices=sorted(SOURCES))
    parser.add_argument("--tenant", help="for events that name none")
    parser.add_argument("--stdin", action="store_true", help="read one unpacked file from standard input")
    parser.add_argument("files", nargs="*")
    args = parser.parse_args()
    if args.stdin == bool(args.files):
        parser.error("give files, or --stdin")
    blobs = [sys.stdin.buffer.read()] if args.stdin else (unpacked(path) for path in args.files)
    json.dump(count(SOURCES[args.map], args.tenant, blobs), sys.stdout, indent=2, ensure_ascii=False)
    print()


if __name__ == "__main__":
    main()
