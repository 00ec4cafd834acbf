"""usage: recompute.py STORE tenant=acme/stream=audit
Recomputes a stream from its Parquet files by ledger/FORMAT.md alone, as a third party would: walks the commits, hashes
each live segment and row, compares each segment's root and each commit's head. Prints JSON, or exits with 1 and the
first fault or "newer format". Signatures are NOT verified: compare with a checkpoint that was verified elsewhere."""
import base64, functools, hashlib, json, pathlib, pyarrow as pa, pyarrow.parquet as pq, struct, sys
FIELDS = {1: "recorded_at tenant stream event_id occurred_at action outcome reason actor_type resource_type data_class "
  "boundary service workflow integration release region severity duration_us trace_id span_id elevation_id approval_id",
  32: "actor_id actor_name on_behalf_of", 40: "resource_id resource_name", 48: "legal_entity business_unit client "
  "project partner", 56: "source_ip session user_agent credential", 64: "attributes"}  # §2, by first ids of sections
COLUMNS = ["seq", *" ".join(FIELDS.values()).split(), "salt_seed", "salt_index"]
WORDS = [*"origin number previous epoch time add remove head edge —".split(), ""]  # §8: what begins a commit's lines
def sha(data): return hashlib.sha256(data).digest()
def b64(data): return base64.b64encode(data).decode()
def check(holds, what): holds or sys.exit(f"recompute: {what}")
def encode(field, column):  # §2: id, type, length, value; a null is nothing
    kind = 1 if pa.types.is_string(column.type) else 2 if pa.types.is_fixed_size_binary(column.type) else 3
    values = column.cast({1: pa.binary(), 2: column.type, 3: pa.int64()}[kind]).to_pylist()
    values = (struct.pack(">q", v) if type(v) is int else v for v in values)
    return [b"" if v is None else struct.pack(">HBI", field, kind, len(v)) + v for v in values]
def leaves(rows):  # §3, §4: the leaf hash of each row
    fields = ([encode(first + i, rows[n]) for i, n in enumerate(names.split())] for first, names in FIELDS.items())
    sections = (map(b"".join, zip(*columns)) for columns in fields)
    for seed, index, skeleton, *committed in zip(*(rows[n].to_pylist() for n in COLUMNS[-2:]), *sections):
        data = b"PRL\1" + skeleton
        for number, section in enumerate(committed, 1):
            if section or number == 5:
                salt = sha(b"\3" + seed + struct.pack(">IB", index, number))[:16]
                data += struct.pack(">HBI", 0x8000 + number, 2, 32) + sha(bytes([2, number]) + salt + section)
        yield sha(b"\0" + data)
def push(edge, size, node):  # §5: while the size is odd, a complete subtree of the node's height stands to its left
    while size & 1: node, size = sha(b"\1" + edge.pop() + node), size >> 1
    edge.append(node)
def root(edge): return b64(functools.reduce(lambda right, left: sha(b"\1" + left + right), edge[::-1] or [sha(b"")]))
def commits(folder):  # §8: each by itself, or in a pack; where it is in both, the same bytes
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        data = path.read_bytes()
        if not data.startswith(b"piperoll-pack/"): yield int(path.name), data; continue
        tag, _, data = data.split(b"\n", 2)
        check(tag == b"piperoll-pack/v1", f"{path.name}: newer format")
        while data:
            header, data = data.split(b"\n", 1)
            (_, number, length) = header.split(b" ")
            yield int(number), data[:int(length)]
            data = data[int(length):]
folder, owner = pathlib.Path(*sys.argv[1:3]), [part.split("=")[1] for part in sys.argv[2].split("/")]
live, heads, previous, tree, size, times, found = {}, {}, "-", [], 0, [], {}
for number, data in commits(folder / "_ledger/commits"):
    check(found.setdefault(number, data) == data, f"commit {number} is there twice, and the two differ")
for number, (named, data) in enumerate(sorted(found.items())):  # §8
    tag, *lines = [line.split(" ") for line in data.decode(errors="replace").split("\n")]
    known = tag == ["piperoll-commit/v1"] and {l[0] for l in lines} <= {*WORDS}
    check(known and all(l[2:] == ["rewritten"] for l in lines if l[0] == "remove"), f"commit {number}: newer format")
    origin, *at = *(l[1] for l in lines[:3]), [l[0] for l in lines[:5]], {l[1] for l in lines if l[0] == "—"}, named
    due = str(number), previous, WORDS[:5], {origin}, number, owner
    check((*at, origin.split("/")[1:3]) == due, f"commit {number} is not next in the chain")
    for gone in (l[1] for l in lines if l[0] == "remove"): check(live.pop(gone, 0), f"commit {number}: no {gone}")
    live |= {l[1]: (*map(int, l[2:5]), *l[5:], l[1], number) for l in lines if l[0] == "add"}
    (end, head), ends = *(l[1:] for l in lines if l[0] == "head"), [str(s[0] + s[1]) for s in sorted(live.values())]
    check(["0", *ends] == [*(str(s[0]) for s in sorted(live.values())), end], f"commit {number}: gap or overlap")
    heads[number], previous = (int(end), head, *(l[1] for l in lines if l[0] == "edge")), b64(sha(data))
for first, count, length, digest, expected, name, number in sorted(live.values()):  # §4
    data, own = (folder / name).read_bytes() if (folder / name).exists() else b"", []
    check((len(data), b64(sha(data))) == (length, digest), f"{name} is not the file that commit {number} added")
    for rows in pq.ParquetFile(pa.BufferReader(data)).iter_batches(1 << 16):
        check({*rows.schema.names} <= {*COLUMNS}, f"{name}: newer format")
        times = times[-1:] + rows["recorded_at"].cast(pa.int64()).to_pylist()
        at = rows.schema.names, rows["seq"].to_pylist(), times, *({*rows[n].to_pylist()} for n in ("tenant", "stream"))
        due = COLUMNS, [*range(size, size + len(rows))], sorted(times), *({part} for part in owner)
        check(at == due, f"{name}: rows from elsewhere")
        for leaf in leaves(rows): push(own, size - first, leaf); push(tree, size, leaf); size += 1
    check((size, root(own)) == (first + count, expected), f"{name}: its rows do not give commit {number}'s root")
    check({h for h in heads.values() if h[0] == size} <= {(size, root(tree), *map(b64, tree))}, f"{size}: another head")
print(json.dumps(dict(size=size, root=root(tree), commits=len(found), last_commit_sha256=previous, leaves=size)))
