"""DuckDB and DataFusion alone, as peers of the benchmark: what is installed of them loads and answers.

    peers.py versions
    peers.py load DATABASE FOLDER      batches FOLDER/*.ndjson into a new DuckDB database, a commit each
    peers.py ask FOLDER < questions    each question over the Parquet files below FOLDER/<tenant>/

Answers one JSON object. Not here: what is compared with what; the benchmark does that.
"""

import itertools
import json
import resource
import statistics
import sys
import threading
import time
from pathlib import Path

WARM_UP, TIMED = 2, 15
THREADS = 2

COLUMNS = """id VARCHAR, time TIMESTAMPTZ, tenant VARCHAR, actor_type VARCHAR, actor_id VARCHAR, action VARCHAR,
    resource_type VARCHAR, resource_id VARCHAR, outcome VARCHAR, source_ip VARCHAR, session VARCHAR, workflow VARCHAR,
    integration VARCHAR, release VARCHAR, region VARCHAR, trace_id VARCHAR, attributes JSON"""
WIRE = """{id: 'VARCHAR', time: 'TIMESTAMPTZ', tenant: 'VARCHAR', actor: 'STRUCT("type" VARCHAR, id VARCHAR)',
    action: 'VARCHAR', resource: 'STRUCT("type" VARCHAR, id VARCHAR)', outcome: 'VARCHAR', source_ip: 'VARCHAR',
    session: 'VARCHAR', workflow: 'VARCHAR', integration: 'VARCHAR', release: 'VARCHAR', region: 'VARCHAR',
    trace_id: 'VARCHAR', attributes: 'JSON'}"""
INSERT = """INSERT INTO audit SELECT id, time, tenant, actor.type, actor.id, action, resource.type, resource.id, outcome,
    source_ip, session, workflow, integration, release, region, trace_id, attributes
    FROM read_json('{file}', format = 'newline_delimited', columns = {wire})"""

# Settings of which the best answer counts, question by question.
DUCKDB = {
    "metadata cached": {"parquet_metadata_cache": "true"},
    "metadata and files cached": {
        "parquet_metadata_cache": "true",
        "cache_local_files": "true",
        "validate_external_file_cache": "'NO_VALIDATION'",
    },
}
DATAFUSION = {
    "filters pushed down": {
        "datafusion.execution.parquet.pushdown_filters": "true",
        "datafusion.execution.parquet.reorder_filters": "true",
    },
    "defaults": {},
}


def versions():
    found = {}
    for name in ("duckdb", "datafusion"):
        try:
            found[name] = __import__(name).__version__
        except ImportError:
            found[name] = None
    return found


def load(database, folder):
    import duckdb

    files = sorted(Path(folder).glob("*.ndjson"))
    connection = duckdb.connect(database, config={"threads": THREADS})
    connection.execute(f"CREATE TABLE audit ({COLUMNS})")
    before = resource.getrusage(resource.RUSAGE_SELF)
    begin = time.perf_counter()
    todo, turn = iter(files), threading.Lock()

    def bring():
        cursor = connection.cursor()
        while True:
            with turn:
                file = next(todo, None)
            if file is None:
                return
            cursor.execute(INSERT.format(file=file, wire=WIRE))

    threads = [threading.Thread(target=bring) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - begin
    events = connection.execute("SELECT count(*) FROM audit").fetchone()[0]
    connection.close()
    after = resource.getrusage(resource.RUSAGE_SELF)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "events": events,
        "seconds": took,
        "processor_seconds": processor,
    }


def timed(answer):
    """Median and best milliseconds of an answer, its rows, and the sum of its column `n` if it has one."""
    times = []
    for number in range(WARM_UP + TIMED):
        begin = time.perf_counter()
        table = answer()
        if number >= WARM_UP:
            times.append((time.perf_counter() - begin) * 1e3)
    counted = sum(table.column("n").to_pylist()) if "n" in table.column_names else None
    return {"median": statistics.median(times), "best": min(times), "rows": table.num_rows, "sum": counted}


def parquet(folder, tenant):
    return sorted(str(path) for path in Path(folder).glob(f"{tenant or '*'}/*.parquet"))


def ask_duckdb(folder, questions):
    import duckdb

    for name, settings in DUCKDB.items():
        connection = duckdb.connect()
        connection.execute(f"SET threads = {THREADS}")
        for key, value in settings.items():
            try:
                connection.execute(f"SET {key} = {value}")
            except duckdb.Error as error:
                print(f"duckdb has no setting {key}: {error}", file=sys.stderr)
        for at, question in enumerate(questions):
            files = parquet(folder, question["tenant"])
            connection.execute(f"CREATE OR REPLACE VIEW audit AS SELECT * FROM read_parquet({files})")
            sql = question["sql"]
            yield at, name, timed(lambda: connection.sql(sql).to_arrow_table())


def ask_datafusion(folder, questions):
    import datafusion
    import pyarrow

    def whole(frame):
        batches = frame.collect()
        return pyarrow.Table.from_batches(batches, schema=None if batches else frame.schema())

    for name, settings in DATAFUSION.items():
        config = datafusion.SessionConfig().with_target_partitions(THREADS)
        config = config.set("datafusion.execution.listing_table_ignore_subdirectory", "false")
        for key, value in settings.items():
            config = config.set(key, value)
        for tenant, asked in itertools.groupby(enumerate(questions), lambda pair: pair[1]["tenant"]):
            context = datafusion.SessionContext(config)
            place = f"{folder}/{tenant}/" if tenant else f"{folder}/"
            context.register_listing_table("audit", place, table_partition_cols=[], file_extension=".parquet")
            for at, question in asked:
                sql = question["sql"]
                yield at, name, timed(lambda: whole(context.sql(sql)))


def ask(folder):
    questions = json.load(sys.stdin)
    answers = {}
    for engine, asking in (("duckdb", ask_duckdb), ("datafusion", ask_datafusion)):
        if versions()[engine] is None:
            continue
        best = [None] * len(questions)
        for at, setting, answer in asking(folder, questions):
            if best[at] is None or answer["median"] < best[at]["median"]:
                best[at] = {**answer, "setting": setting}
        answers[engine] = best
    return answers


COMMANDS = {"versions": versions, "load": load, "ask": ask}
json.dump(COMMANDS[sys.argv[1]](*sys.argv[2:]), sys.stdout)
