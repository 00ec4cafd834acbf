"""Recomputes a stream of a Piperoll store from its Parquet files, as a third party would, by ledger/FORMAT.md alone.
usage: recompute.py STORE tenant=acme/stream=audit
Walks the commits, hashes each live segment, recomputes each row's leaf, and compares the root of each segment and the
head of each commit. Prints JSON, or names the first disagreement and exits with 1. Python's standard library has no
Ed25519: signatures are NOT verified, so compare what is printed with a checkpoint that was verified elsewhere."""
import base64, functools, hashlib, json, pathlib, struct, sys
import pyarrow as pa, pyarrow.parquet as pq

FIELDS = {1: "recorded_at tenant stream event_id occurred_at action outcome reason actor_type resource_type data_class "
  "boundary service workflow integration release region severity duration_us trace_id span_id elevation_id approval_id",
  32: "actor_id actor_name on_behalf_of", 40: "resource_id resource_name", 48: "legal_entity business_unit client "
  "project partner", 56: "source_ip session user_agent credential", 64: "attributes"}  # §2, by first ids of sections
COLUMNS = ["seq", *" ".join(FIELDS.values()).split(), "salt_seed", "salt_index"]
def sha(data): return hashlib.sha256(data).digest()
def b64(data): return base64.b64encode(data).decode()
def check(holds, what): holds or sys.exit(f"recompute: {what}")

def encode(field, column):  # §2: id, type, length, value; a null is nothing
    kind = 1 if pa.types.is_string(column.type) else 2 if pa.types.is_fixed_size_binary(column.type) else 3
    values = (column.cast(pa.binary()) if kind == 1 else column if kind == 2 else column.cast(pa.int64())).to_pylist()
    values = (struct.pack(">q", v) if kind == 3 and v is not None else v for v in values)
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
folder, owner = pathlib.Path(*sys.argv[1:3]), [part.split("=")[1] for part in sys.argv[2].split("/")]
live, heads, previous, tree, size, paths = {}, {}, "-", [], 0, sorted((folder / "_ledger/commits").iterdir())
for number, path in enumerate(paths):  # §8
    note = path.read_bytes()
    tag, origin, *lines = [line.split(" ") for line in note.decode(errors="replace").split("\n")]
    due = ["piperoll-commit/v1"], ["number", str(number)], ["previous", previous], f"{number:020}", owner
    check((tag, *lines[:2], path.name, origin[1].split("/")[1:3]) == due, f"commit {number} is not next in the chain")
    for gone in (l[1] for l in lines if l[0] == "remove"): check(live.pop(gone, 0), f"commit {number}: no {gone}")
    live |= {l[1]: (*map(int, l[2:5]), *l[5:], l[1], number) for l in lines if l[0] == "add"}
    (end, head), ends = *(l[1:] for l in lines if l[0] == "head"), [str(s[0] + s[1]) for s in sorted(live.values())]
    check(["0", *ends] == [*(str(s[0]) for s in sorted(live.values())), end], f"commit {number}: gap or overlap")
    heads[number], previous = (end, head, *(l[1] for l in lines if l[0] == "edge")), b64(sha(note))
for first, count, length, digest, expected, name, number in sorted(live.values()):  # §4
    data, own = (folder / name).read_bytes() if (folder / name).exists() else b"", []
    check((len(data), b64(sha(data))) == (length, digest), f"{name} is not the file that commit {number} added")
    for rows in pq.ParquetFile(pa.BufferReader(data)).iter_batches(1 << 16):
        at = rows.schema.names, rows["seq"].to_pylist(), *({*rows[n].to_pylist()} for n in ("tenant", "stream"))
        check(at == (COLUMNS, [*range(size, size + len(rows))], *({o} for o in owner)), f"{name}: rows from elsewhere")
        for size, leaf in enumerate(leaves(rows), size): push(own, size - first, leaf), push(tree, size, leaf)
        size += 1
    check((size, root(own)) == (first + count, expected), f"{name}: its rows do not give commit {number}'s root")
    now = str(size), root(tree), *map(b64, tree)
    for by, head in heads.items(): check(head[0] != now[0] or head == now, f"commit {by}: another head")
print(json.dumps(dict(size=size, root=root(tree), commits=len(paths), last_commit_sha256=previous, leaves=size)))
