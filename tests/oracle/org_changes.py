#!/usr/bin/env python3
"""Who joined and who left the GitHub organisations of Kubernetes, told twice and without Piperoll.

Reads the raw data of `access-snapshots` and shares no code with the program, so that equal numbers mean something.
Standard library only; a FILE may be gzipped.

    org_changes.py --snapshots SNAPSHOTS       what every two consecutive snapshots differ in
    org_changes.py --log SNAPSHOTS CHANGES     what the git log says, held against those differences

Both print one JSON object.

--snapshots

The organisation is the second part of `path`. `config/ORG/org.yaml` holds its `admins` and `members`; any file of it
may hold teams, which nest under a key that is `teams` again. A missing list, `null` and `[]` are the same. A login
that is a number is its digits; logins are compared in lower case; one that stands twice in a list counts once.

A step is a pair of consecutive snapshots. The first snapshot ends no step, so nobody joins in it. An organisation
without `org.yaml` has nobody: once it appears everyone joins, once it disappears everyone leaves. Who moves between
admins and members is in `changed`. `steps` has those in which something happened, by organisation and time.

`entitlements` counts per snapshot and organisation. Its `digest` is the SHA-256 of all of them, each a line ended by
LF, in order of their bytes: `admin LOGIN`, `member LOGIN`, `team PARENT/CHILD maintainer|member LOGIN`.
A few teams of kubernetes-sigs have `/` in their own names; no two paths meet for it.

--log

A commit takes effect where it reaches the first-parent chain of the youngest commit, dates aside: it belongs to the
first commit of the chain from which it can be reached. Snapshots are commits of the chain, so a step is a stretch of
it. Within one merge parents go before children.

A subject speaks only when the whole of it has one of these forms. Case, quotes, and at its end `(#12)`, `.`, `/`,
`due to stale invite` and `Signed-off-by: ..` do not count.

    [SCOPE:] VERB LOGINS [PREP TARGET]       add X, Y and Z to the kubernetes, k-sigs orgs
    [REQUEST:] New [ORG] membership for X
    RENAME X to|with|->|=>|/ Y               update github handle of X to Y: X out and Y in
    Revert "any of these"                    the opposite
    Merge pull request #1 from U/BRANCH      BRANCH is add-X-to-ORG or remove-X-from-ORG, and no commit that the merge
                                             brings speaks; it counts as changing the files of all of them

VERB is a form of add, add back, remove, offboard or drop. LOGINS are all of them in some snapshot's admins or members,
or written `@name`. TARGET is made of organisations (ORGS) and of NOISE; with any other word in it the subject is about
a team, and does not speak. A SCOPE is an organisation or a word of SCOPES; a RENAME is made of words of RENAMING. A
subject that names no organisation speaks of those whose `org.yaml` the commit changes, one that names some speaks of
these, provided that the commit changes the `org.yaml` of any.

The first thing said of (organisation, step, login) tells who stood there before, the last who stands there after:
add: joined; remove: left; add, remove: came and went; remove, add: left and came back. The log agrees when the
snapshots at both ends show just that. It is silent about a joiner or leaver of whom it says nothing in that step.

Every disagreement has the first of these reasons that the data prove:

    wrong_file       all that is said of it names an organisation whose file the commit does not change
    team             the subject names no organisation; in it, the login's teams changed that way and nothing else
    told_otherwise   another commit of the step to that file names the login in words outside the grammar
    came_and_went    added, in neither snapshot       already_there   added, in both snapshots
    already_gone     removed, in neither snapshot     still_there     removed, in both snapshots
    opposite         the snapshots show the other direction

`suspects` are the commits of the step which change that file and do not speak.

`aside` has what was heard and not believed: how many subjects give known logins to a team; subjects whose form is
right and whose names no snapshot knows; how many commits to an `org.yaml` do not speak.
"""

import argparse
import bisect
import collections
import gzip
import hashlib
import json
import re

ORGS = {
    "kubernetes": "kubernetes k8s k kuebrnetes",
    "kubernetes-sigs": "kubernetes-sigs kubernetes-sig k-sigs k-sig k8s-sigs k8s-sig kubenetes-sigs sigs",
    "kubernetes-csi": "kubernetes-csi k-csi k8s-csi csi",
    "kubernetes-client": "kubernetes-client kubernetes-clients k-client k8s-client client",
    "kubernetes-incubator": "kubernetes-incubator k-incubator incubator",
    "kubernetes-nightly": "kubernetes-nightly k-nightly",
    "kubernetes-retired": "kubernetes-retired",
    "etcd-io": "etcd-io etcd.io",
}
ALIAS = {word: org for org, words in ORGS.items() for word in words.split()}
NOISE = set("the both a an as in of org orgs org.yaml organization organizations github member members list".split())
VERBS = {"add": "add adds added adding re-add readd", "remove": "remove removes removed removing offboard drop"}
OP = {word: op for op, words in VERBS.items() for word in words.split()}
OTHER = {"add": "remove", "remove": "add"}
SCOPES = set("org sigs membership github-membership config request config/kubernetes/org.yaml".split())
RENAMING = set("rename update updating change replace github user username name handle of for org member".split())

NAME = r"[A-Za-z0-9][A-Za-z0-9-]*"
SCOPE = re.compile(r"([\w./-]+): (.+)")
SPOKEN = re.compile(r"([\w-]+) (?:back )?(.+?)(?: (?:to|from|as|in|into|of|for) (.+))?", re.I)
NEW = re.compile(rf"new (?:([\w-]+) )?membership for ({NAME})", re.I)
RENAME = re.compile(rf"((?:\w+:? )+)(?:s/)?({NAME})(?: to | with | ?[-=]> ?|/)({NAME})", re.I)
REVERT = re.compile(r'revert "(.+)"', re.I)
BRANCH = re.compile(r"Merge pull request #\d+ from [^/ ]+/(?:.*/)?(add|remove)[-_](.+)[-_](?:to|from)[-_](.+)", re.I)
TAIL = re.compile(r"( \(#\d+\)| Signed-off-by: .*| due to stale invite|[./]|\s)+$", re.I)

Said = collections.namedtuple("Said", "kind pairs orgs")  # orgs None: those whose file changed
Told = collections.namedtuple("Told", "at commit subject kind op login org touched")


# ---- snapshots


def rows(path):
    """The JSON documents of a file, one a line."""
    opened = gzip.open(path, "rt", encoding="utf-8") if path.endswith(".gz") else open(path, encoding="utf-8")
    with opened as lines:
        return [json.loads(line) for line in lines]


def logins(holder, key):
    """The logins of a list that may be missing or null, in lower case; numbers are their digits."""
    return {str(login).lower() for login in holder.get(key) or []}


def team_rows(teams, above):
    """(path, role, login) of every membership of nested teams."""
    for name, team in (teams or {}).items():
        path = above + name
        for key, role in (("maintainers", "maintainer"), ("members", "member")):
            for login in logins(team, key):
                yield path, role, login
        yield from team_rows(team.get("teams"), path + "/")


def new_org():
    return {"admins": set(), "members": set(), "teams": set()}


def read_snapshots(path):
    """By date: the commit, and by organisation its admins, members and team memberships."""
    snapshots = {}
    for row in rows(path):
        snapshot = snapshots.setdefault(row["snapshot"], {"commit": row["commit"], "orgs": {}})
        parts = row["path"].split("/")
        org = snapshot["orgs"].setdefault(parts[1], new_org())
        if parts[2:] == ["org.yaml"]:
            org["admins"] |= logins(row["doc"], "admins")
            org["members"] |= logins(row["doc"], "members")
        org["teams"] |= set(team_rows(row["doc"].get("teams"), ""))
    return dict(sorted(snapshots.items()))


def roles(snapshot, org):
    """Login to role in an organisation."""
    found = snapshot["orgs"].get(org) or new_org()
    return {**{login: "member" for login in found["members"]}, **{login: "admin" for login in found["admins"]}}


def steps_of(snapshots):
    """(organisation, from, to, roles before, roles after) of every step of every organisation there is."""
    dates = list(snapshots)
    for before, after in zip(dates, dates[1:]):
        one, two = snapshots[before], snapshots[after]
        for org in sorted(set(one["orgs"]) | set(two["orgs"])):
            yield org, before, after, roles(one, org), roles(two, org)


def step(org, before, after, old, new):
    """What a step comes to."""
    changed = sorted([login, old[login], new[login]] for login in old.keys() & new.keys() if old[login] != new[login])
    return {
        "org": org,
        "from": before,
        "to": after,
        "joined": sorted(new.keys() - old.keys()),
        "left": sorted(old.keys() - new.keys()),
        "changed": changed,
    }


def entitlements(date, name, org):
    """How many entitlements an organisation has in a snapshot, and their digest."""
    held = [f"admin {login}" for login in org["admins"]] + [f"member {login}" for login in org["members"]]
    held += [f"team {path} {role} {login}" for path, role, login in org["teams"]]
    ordered = sorted(line.encode() + b"\n" for line in held)
    of_role = collections.Counter(role for _, role, _ in org["teams"])
    return {
        "snapshot": date,
        "org": name,
        "admins": len(org["admins"]),
        "members": len(org["members"]),
        "team_maintainers": of_role["maintainer"],
        "team_members": of_role["member"],
        "entitlements": len(held),
        "digest": hashlib.sha256(b"".join(ordered)).hexdigest(),
    }


def snapshots_answer(path):
    """The answer to --snapshots."""
    snapshots = read_snapshots(path)
    every = [step(*found) for found in steps_of(snapshots)]
    told = sorted(
        (found for found in every if found["joined"] or found["left"] or found["changed"]),
        key=lambda found: (found["org"], found["from"]),
    )
    pairs = [(date, name, org) for date, found in snapshots.items() for name, org in sorted(found["orgs"].items())]
    held = [entitlements(*pair) for pair in pairs]
    totals = {key: sum(len(found[key]) for found in told) for key in ("joined", "left", "changed")}
    totals.update(snapshots=len(snapshots), steps_compared=len(every), steps=len(told))
    for key in ("admins", "members", "team_maintainers", "team_members", "entitlements"):
        totals[key] = sum(row[key] for row in held)
    return {"totals": totals, "steps": told, "entitlements": held}


# ---- what a subject says


def target(words):
    """The organisations that words name: a set, empty for words like `org`; None for a team or anything else."""
    words = re.sub(r"\bkubernetes (sigs?)\b", r"kubernetes-\1", words.lower())
    orgs = set()
    for word in re.split(r"[,&\s]+", words):
        word = re.sub(r"(?<=[a-z])(/org|\.org|/)$", "", word)
        if word in ALIAS:
            orgs.add(ALIAS[word])
        elif word and word not in NOISE and word != "and":
            return None
    return orgs


def people(words, known):
    """The logins that words list; an empty list when one of them is no login known; None when it is no list."""
    found = []
    for word in re.split(r",? and |, ?| ?& ?", words):
        if not re.fullmatch(f"@?{NAME}@?", word):
            return None
        found.append((word.strip("@").lower(), "@" in word))
    return [login for login, _ in found] if all(login in known or at for login, at in found) else []


def says_rename(subject, known):
    """RENAME of the grammar."""
    match = RENAME.fullmatch(subject)
    if not match or not set(re.findall(r"\w+", match[1].lower())) <= RENAMING:
        return None
    old, new = match[2].lower(), match[3].lower()
    if old == new or not {old, new} <= known:
        return None
    return Said("rename", [("remove", old), ("add", new)], None)


def says(subject, known):
    """What a subject says, or None. Kind `team` and `unknown` are heard but not believed."""
    subject = TAIL.sub("", subject.strip())
    match = REVERT.fullmatch(subject)
    if match:
        said = says(match[1], known)
        return said and said._replace(kind="revert", pairs=[(OTHER[op], login) for op, login in said.pairs])
    subject = " ".join(re.sub("[`'\"“”]", "", subject).split())
    scope, orgs = SCOPE.fullmatch(subject), None
    if scope and (scope[1].lower() in SCOPES or scope[1].lower() in ALIAS):
        subject, orgs = scope[2], ALIAS.get(scope[1].lower())
    match = NEW.fullmatch(subject)
    if match:
        subject = f"add {match[2]} to {match[1] or 'org'}"
    return says_rename(subject, known) or says_plainly(subject, orgs and {orgs}, known)


def says_plainly(subject, scope, known):
    """VERB LOGINS [PREP TARGET] of the grammar."""
    match = SPOKEN.fullmatch(subject)
    op = match and OP.get(match[1].lower())
    names = people(match[2], known) if op else None
    if names is None:
        return None
    orgs = target(match[3] or "")
    if orgs is None:
        return Said("team", [(op, login) for login in names], set())
    kind = "plain" if orgs or scope else "bare"
    return Said(kind if names else "unknown", [(op, login) for login in names], orgs or scope)


# ---- the history


class History:
    """The commits, and where each reaches the first-parent chain of the youngest."""

    def __init__(self, commits):
        self.commits = {row["commit"]: row for row in commits}
        parents = {parent for row in commits for parent in row["parents"]}
        (youngest,) = self.commits.keys() - parents
        self.chain = self.first_parents(youngest)
        self.merged = []
        placed = set()
        for commit in self.chain:
            self.merged.append(self.reached(commit, placed))
        self.place = {commit: at for at, commit in enumerate(self.chain)}

    def first_parents(self, commit):
        """The chain, oldest first."""
        chain = []
        while commit:
            chain.append(commit)
            commit = next(iter(self.commits[commit]["parents"]), None)
        return chain[::-1]

    def reached(self, commit, placed):
        """What a commit of the chain brings: parents before children, itself last."""
        order, stack = [], [(commit, False)]
        while stack:
            found, done = stack.pop()
            if done:
                order.append(found)
            elif found not in placed:
                placed.add(found)
                stack.append((found, True))
                stack.extend((parent, False) for parent in reversed(self.commits[found]["parents"]))
        return order

    def files(self, commits):
        """The organisations whose `org.yaml` one of the commits changes."""
        paths = [changed["path"].split("/") for commit in commits for changed in self.commits[commit]["files"]]
        return {path[-2] for path in paths if path[-1] == "org.yaml" and path[:-2] in ([], ["config"])}


def said_in_branch(subject, known):
    """What the branch of a merge says."""
    match = BRANCH.fullmatch(subject)
    if not match:
        return None
    orgs = re.sub("[-_]and[-_]", " ", re.sub("[-_]org$", "", match[3]))
    said = says(f"{match[1]} {match[2]} to {orgs}", known)
    return said and said._replace(kind="branch" if said.kind == "plain" else "team")


def hear(history, known):
    """(place, commit, Said, organisations changed) of everything that the log says, in order."""
    for at, brought in enumerate(history.merged):
        spoken = False
        for commit in brought:
            row = history.commits[commit]
            merge = len(row["parents"]) > 1
            if merge and (spoken or commit != brought[-1]):
                continue
            said = said_in_branch(row["subject"], known) if merge else says(row["subject"], known)
            if said:
                spoken = True
                yield at, commit, said, history.files(brought if merge else [commit])


def statements(history, known):
    """What the log tells of logins, and what of it stays aside, by reason."""
    told, aside = [], {"team": [], "unknown": []}
    for at, commit, said, changed in hear(history, known):
        subject = history.commits[commit]["subject"]
        if said.kind in aside:
            aside[said.kind].append((at, commit, subject, changed))
            continue
        orgs = changed if said.orgs is None else said.orgs
        for org in sorted(orgs) if changed else ():
            told += [Told(at, commit, subject, said.kind, op, login, org, org in changed) for op, login in said.pairs]
    return told, aside


# ---- both held against each other


class Comparison:
    """What the log tells, by (organisation, step, login), against the snapshots."""

    def __init__(self, snapshots, history):
        self.snapshots, self.history = snapshots, history
        self.dates = list(snapshots)
        self.ends = [history.place[found["commit"]] for found in snapshots.values()]
        orgs = [org for found in snapshots.values() for org in found["orgs"].values()]
        self.known = set().union(*(org["admins"] | org["members"] for org in orgs))
        self.told, self.aside = statements(history, self.known)
        self.speaking = {told.commit for told in self.told}
        self.by_login = collections.defaultdict(list)
        self.outside = collections.Counter()
        for told in self.told:
            self.take(told)

    def step_at(self, place):
        """Number of the step of a place of the chain; 0 is before the first snapshot."""
        return bisect.bisect_left(self.ends, place)

    def take(self, told):
        number = self.step_at(told.at)
        if 0 < number < len(self.dates):
            self.by_login[told.org, number, told.login].append(told)
        else:
            self.outside["after_last_snapshot" if number else "before_first_snapshot"] += 1

    def around(self, number):
        return self.snapshots[self.dates[number - 1]], self.snapshots[self.dates[number]]

    def there(self, key):
        """Whether the login stands in the organisation before and after the step."""
        org, number, login = key
        return tuple(login in roles(snapshot, org) for snapshot in self.around(number))

    def agrees(self, key):
        first, last = self.by_login[key][0].op, self.by_login[key][-1].op
        return self.there(key) == (first == "remove", last == "add")

    def commits(self, org, number):
        """The commits of a step that change an organisation's file."""
        for at in range(self.ends[number - 1] + 1, self.ends[number] + 1):
            for commit in self.history.merged[at]:
                if org in self.history.files([commit]):
                    yield commit, self.history.commits[commit]["subject"]

    def teams_only(self, key):
        """Whether only teams of the login changed, in the direction told."""
        org, number, login = key
        empty = new_org()
        one, two = (
            {row[:2] for row in snapshot["orgs"].get(org, empty)["teams"] if row[2] == login}
            for snapshot in self.around(number)
        )
        gone, come = one - two, two - one
        last = self.by_login[key][-1]
        staying = self.there(key) == (True, True) and all(told.kind == "bare" for told in self.by_login[key])
        return staying and bool(gone if last.op == "remove" else come)

    def reason(self, key):
        """Why the log and the snapshots disagree."""
        org, number, login = key
        said = self.by_login[key]
        mine = {told.commit for told in said}
        if not any(told.touched for told in said):
            return "wrong_file"
        if self.teams_only(key):
            return "team"
        others = (subject for commit, subject in self.commits(org, number) if commit not in mine)
        if any(login in re.findall(NAME, subject.lower()) for subject in others):
            return "told_otherwise"
        before, after = self.there(key)
        if before != after:
            return "opposite"
        if said[-1].op == "add":
            return "already_there" if after else "came_and_went"
        return "still_there" if after else "already_gone"

    def disagreement(self, key):
        org, number, login = key
        before, after = self.there(key)
        suspects = [[c, subject] for c, subject in self.commits(org, number) if c not in self.speaking]
        return {
            "org": org,
            "from": self.dates[number - 1],
            "to": self.dates[number],
            "login": login,
            "reason": self.reason(key),
            "before": before,
            "after": after,
            "told": [[told.op, told.commit, told.subject] for told in self.by_login[key]],
            "suspects": suspects,
        }


TOLD = {("add", "add"): "joined", ("remove", "remove"): "left"}
TOLD.update({("add", "remove"): "came_and_went", ("remove", "add"): "left_and_came_back"})


def told_steps(comparison):
    """What the log says by organisation and step, and how often it agrees by what it says."""
    steps, agree = {}, collections.Counter()
    for key in sorted(comparison.by_login):
        org, number, login = key
        said = comparison.by_login[key]
        word = TOLD[said[0].op, said[-1].op]
        found = steps.setdefault((org, number), {"org": org, **dates_of(comparison, number)})
        found.setdefault(word, []).append(login)
        agree[word] += comparison.agrees(key)
    return [{**found, **{word: found.get(word, []) for word in TOLD.values()}} for found in steps.values()], agree


def dates_of(comparison, number):
    return {"from": comparison.dates[number - 1], "to": comparison.dates[number]}


def silences(comparison):
    """Joiners and leavers of whom the log says nothing, by organisation and step."""
    found = []
    for number in range(1, len(comparison.dates)):
        one, two = comparison.around(number)
        for org in sorted(one["orgs"].keys() | two["orgs"].keys()):
            made = step(org, *comparison.dates[number - 1 : number + 1], roles(one, org), roles(two, org))
            del made["changed"]
            for key in ("joined", "left"):
                made[key] = [login for login in made[key] if (org, number, login) not in comparison.by_login]
            if made["joined"] or made["left"]:
                found.append(made)
    return sorted(found, key=lambda made: (made["org"], made["from"]))


def aside_answer(comparison):
    """What was heard and not believed, within the steps."""
    ends, mute = comparison.ends, set()
    aside = {key: [row for row in found if ends[0] < row[0] <= ends[-1]] for key, found in comparison.aside.items()}
    for number in range(1, len(comparison.dates)):
        for org in ORGS:
            mute |= {commit for commit, _ in comparison.commits(org, number)} - comparison.speaking
    unknown = [[commit, subject, sorted(changed)] for _, commit, subject, changed in aside["unknown"] if changed]
    return {"team_subjects": len(aside["team"]), "commits_that_do_not_speak": len(mute), "unknown_names": unknown}


def log_answer(snapshots_path, changes_path):
    """The answer to --log."""
    comparison = Comparison(read_snapshots(snapshots_path), History(rows(changes_path)))
    steps, agree = told_steps(comparison)
    disagreements = [comparison.disagreement(key) for key in sorted(comparison.by_login) if not comparison.agrees(key)]
    silent = silences(comparison)
    totals = {
        "commits": len(comparison.history.commits),
        "chain": len(comparison.history.chain),
        "statements": len(comparison.told),
        "statements_by_form": dict(sorted(collections.Counter(told.kind for told in comparison.told).items())),
        "statements_outside_steps": dict(sorted(comparison.outside.items())),
        "compared": len(comparison.by_login),
        "agree": sum(agree.values()),
        "agree_by_word": dict(sorted(agree.items())),
        "disagree": len(disagreements),
        "disagree_by_reason": dict(sorted(collections.Counter(found["reason"] for found in disagreements).items())),
        "silent_joined": sum(len(found["joined"]) for found in silent),
        "silent_left": sum(len(found["left"]) for found in silent),
    }
    answer = {"totals": totals, "disagreements": disagreements, "aside": aside_answer(comparison)}
    return {**answer, "silent": silent, "steps": steps}


def main():
    parser = argparse.ArgumentParser(description="joiners and leavers of GitHub organisations, without Piperoll")
    mode = parser.add_mutually_exclusive_group(required=True)
    mode.add_argument("--snapshots", metavar="SNAPSHOTS", help="compare consecutive snapshots")
    mode.add_argument("--log", nargs=2, metavar=("SNAPSHOTS", "CHANGES"), help="hold the git log against them")
    args = parser.parse_args()
    answer = snapshots_answer(args.snapshots) if args.snapshots else log_answer(*args.log)
    print(json.dumps(answer, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
