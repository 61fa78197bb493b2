"""A server of YCQL's dialect of the native protocol: it gives the answers that YugabyteDB gives and Cassandra cannot.

It speaks version 4 alone, evaluates the package's own SELECTs over rows in memory, and counts what it gets. The driver's classes
encode the values. What YugabyteDB does is known from its documentation, its issues and its source; none was run.
"""

import io
import re
import struct
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from hashlib import md5
from socketserver import StreamRequestHandler, ThreadingTCPServer
from typing import Any
from uuid import UUID

from cassandra import cqltypes, protocol

VERSION = 4
READY, SUPPORTED, ERROR, RESULT = 0x02, 0x06, 0x00, 0x08
OPTIONS, STARTUP, REGISTER, QUERY, PREPARE, EXECUTE = 0x05, 0x01, 0x0B, 0x07, 0x09, 0x0A
ROWS, PREPARED = 2, 4
GLOBAL_SPEC, MORE_PAGES = 1, 2
INVALID, PROTOCOL_ERROR, UNPREPARED = 0x2200, 0x000A, 0x2500
SELECT = re.compile(r"\s*SELECT\s+(.+?)\s+FROM\s+([\w.]+)(?:\s+WHERE\s+(.+?))?(?:\s+ALLOW FILTERING)?\s*", re.DOTALL)
CONDITION = re.compile(r"(token\([\w, ]+\)|\w+)\s*(>=|<=|>|<|=|IN)\s*(\?|'[^']*')")
COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "=": lambda left, right: left == right, "IN": lambda left, right: left in right, ">": lambda left, right: left > right,
    "<": lambda left, right: left < right, ">=": lambda left, right: left >= right, "<=": lambda left, right: left <= right,
}  # fmt: skip
BITS_BELOW_HASH = 48  # of a token: YCQL ignores them in the bounds of a query
SMALLEST_TOKEN = -(2**63)  # of YCQL's smallest hash; Cassandra gives it to no row

Row = Mapping[str, Any]


@dataclass
class Table:
    """A table: its columns with their types, its key, its indexes, and its rows."""

    columns: dict[str, str]
    partition: Sequence[str] = ()
    clustering: Sequence[str] = ()
    index_targets: Sequence[str] = ()
    rows: list[Row] = field(default_factory=list)
    token: Callable[[Row], int] = lambda _row: 0


@dataclass
class YcqlServer:
    """What the nodes of one cluster answer, and what they were asked.

    :param tables: by `keyspace.table`
    :param addresses: of the nodes; each listens on the same port
    """

    tables: dict[str, Table]
    addresses: Sequence[str] = ("127.0.0.1",)
    partitioner: str = "org.apache.cassandra.dht.Murmur3Partitioner"  # as YugabyteDB says
    port: int = 0
    versions: set[int] = field(default_factory=set)  # of the protocol, of each frame that came
    executed: list[tuple[str, list[Any]]] = field(default_factory=list)  # statements with their values
    prepared: list[str] = field(default_factory=list)
    stays_stale: bool = False  # even if it is prepared again
    _stale: set[bytes] = field(default_factory=set)
    _statements: dict[bytes, str] = field(default_factory=dict)
    _stale_code: int = INVALID

    def alter_tables(self, error_code: int = INVALID) -> None:
        """Let each prepared statement be stale until it is prepared again."""
        self._stale_code = error_code
        self._stale = set(self._statements)

    def answer(self, opcode: int, body: io.BytesIO, node: str) -> tuple[int, bytes]:
        """Return the opcode and the body of an answer."""
        if opcode == OPTIONS:
            return SUPPORTED, written(protocol.write_stringmultimap, {"CQL_VERSION": ["3.4.2"], "COMPRESSION": []})
        if opcode in (STARTUP, REGISTER):
            return READY, b""
        if opcode == PREPARE:
            return self._prepare(protocol.read_longstring(body))
        if opcode == EXECUTE:
            statement_id = body.read(protocol.read_short(body))
            query = self._statements.get(statement_id, "")
            if not query or (statement_id in self._stale and self._stale_code == UNPREPARED):
                return ERROR, error(UNPREPARED, "Prepared query not found") + struct.pack(">H", len(statement_id)) + statement_id
            if statement_id in self._stale:
                return ERROR, error(INVALID, "Invalid Arguments. Wrong Metadata Version")
            return self._select(query, body, node)
        assert opcode == QUERY, opcode
        query = protocol.read_longstring(body)
        if "system.peers_v2" in query:
            return ERROR, error(INVALID, "Object Not Found")  # the driver then asks for system.peers
        return self._select(query, body, node)

    def _prepare(self, query: str) -> tuple[int, bytes]:
        selected, table, conditions = self._parse(query)
        statement_id = md5(query.encode(), usedforsecurity=False).digest()  # YugabyteDB's id stays the same after ALTER, too
        self._statements[statement_id] = query
        if not self.stays_stale:
            self._stale.discard(statement_id)
        self.prepared.append(query)
        markers = [(name, kind) for name, _, kind, literal in conditions if literal is None]
        out = io.BytesIO()
        protocol.write_int(out, PREPARED)
        protocol.write_short(out, len(statement_id))
        out.write(statement_id)
        out.write(struct.pack(">iii", GLOBAL_SPEC, len(markers), 0))  # no column of the partition key is named
        write_columns(out, table, markers)
        out.write(struct.pack(">ii", GLOBAL_SPEC, len(selected)))
        write_columns(out, table, [(name, kind) for name, kind, _ in selected])
        return RESULT, out.getvalue()

    def _select(self, query: str, body: io.BytesIO, node: str) -> tuple[int, bytes]:
        selected, table, conditions = self._parse(query, node)
        given, page_size, offset = read_parameters(body)
        values = [kind.from_binary(given.pop(0), VERSION) if literal is None else literal for _, _, kind, literal in conditions]
        if not table.startswith("system"):
            self.executed.append((query, values))
        of_table = self._table(table, node)

        def matches(row: Row) -> bool:
            return all(
                COMPARE[operator](of_table.token(row) >> BITS_BELOW_HASH, value >> BITS_BELOW_HASH)
                if name.startswith("token")
                else COMPARE[operator](row.get(name), value)
                for (name, operator, _, _), value in zip(conditions, values, strict=True)
            )

        found = [row for row in of_table.rows if matches(row)]
        page = found[offset : offset + page_size]
        has_more = offset + page_size < len(found)
        out = io.BytesIO()
        out.write(struct.pack(">iii", ROWS, GLOBAL_SPEC | MORE_PAGES * has_more, len(selected)))
        if has_more:
            protocol.write_value(out, str(offset + page_size).encode())
        write_columns(out, table, [(name, kind) for name, kind, _ in selected])
        protocol.write_int(out, len(page))
        for row in page:
            for _, kind, value_of in selected:
                value = value_of(row)
                protocol.write_value(out, None if value is None else kind.to_binary(value, VERSION))
        return RESULT, out.getvalue()

    def _parse(self, query: str, node: str = "") -> tuple[list[Any], str, list[Any]]:
        """Return what is selected (name, type, value of a row), the table, and the conditions (name, operator, type, literal)."""
        found = SELECT.fullmatch(query)
        assert found, query
        columns, name, where = found.groups()
        table = self._table(name, node or self.addresses[0])
        texts = list(table.columns) if columns == "*" else [text.strip() for text in columns.split(",")]
        conditions = []
        for column, operator, value in CONDITION.findall(where or ""):
            kind = cql_type("bigint" if column.startswith("token") else table.columns[column])
            kind = cqltypes.ListType.apply_parameters([kind]) if operator == "IN" else kind
            conditions.append((column, operator, kind, None if value == "?" else value[1:-1]))
        assert len(conditions) == len((where or "").split(" AND ")) or not where, query
        return [selected(text, table) for text in texts], name, conditions

    def _table(self, name: str, node: str) -> Table:
        if name in self.tables:
            return self.tables[name]
        assert name.startswith("system"), name
        return self._system_tables(node)[name]

    def _system_tables(self, node: str) -> dict[str, Table]:
        """Return the tables of the system as this node has them: sizes of 0, and the hashes of the first partitions."""
        hosts = [
            {
                "key": "local", "peer": address, "rpc_address": address, "broadcast_address": address, "listen_address": address,
                "data_center": "dc1", "rack": "rack1", "host_id": UUID(int=number), "schema_version": UUID(int=0),
                "cluster_name": "local cluster", "release_version": "3.9-SNAPSHOT", "partitioner": self.partitioner,
                "tokens": {str(SMALLEST_TOKEN + number * 2**64 // len(self.addresses))},
            }
            for number, address in enumerate(self.addresses)
        ]  # fmt: skip
        inets = dict.fromkeys(("peer", "rpc_address", "broadcast_address", "listen_address"), "inet")
        ids = dict.fromkeys(("host_id", "schema_version"), "uuid")
        of_host = dict.fromkeys(hosts[0], "text") | inets | ids | {"tokens": "set<text>"}
        names = ["system.partitions", *self.tables]
        by_table = {"keyspace_name": "text", "table_name": "text"}
        listed = [dict(zip(by_table, name.split("."), strict=True)) for name in names]
        keyspaces = [
            {"keyspace_name": name, "durable_writes": True, "replication": {"class": "SimpleStrategy", "replication_factor": "1"}}
            for name in {one["keyspace_name"] for one in listed}
        ]
        empty = ("triggers", "types", "functions", "aggregates", "views")
        return {
            "system.local": Table(of_host, rows=[host for host in hosts if host["peer"] == node]),
            "system.peers": Table(of_host, rows=[host for host in hosts if host["peer"] != node]),
            "system.partitions": Table(by_table),
            "system.size_estimates": Table(
                by_table | {"partitions_count": "bigint", "mean_partition_size": "bigint"},
                rows=[one | {"partitions_count": 0, "mean_partition_size": 0} for one in listed],
            ),
            "system_schema.keyspaces": Table(
                {"keyspace_name": "text", "durable_writes": "boolean", "replication": "map<text, text>"}, rows=keyspaces
            ),
            "system_schema.tables": Table(
                by_table | {"flags": "set<text>"}, rows=[one | {"flags": {"compound"}} for one in listed]
            ),
            "system_schema.columns": Table(
                by_table | dict.fromkeys(("column_name", "clustering_order", "kind", "type"), "text") | {"position": "int"},
                rows=[
                    one | column for one, name in zip(listed, names, strict=True) for column in columns_of(self.tables.get(name))
                ],
            ),
            "system_schema.indexes": Table(
                by_table | {"index_name": "text", "kind": "text", "options": "map<text, text>"},
                rows=[
                    one | {"index_name": target, "kind": "COMPOSITES", "options": {"target": target}}
                    for one, table in zip(listed[1:], self.tables.values(), strict=True)
                    for target in table.index_targets
                ],
            ),
            **{f"system_schema.{name}": Table(by_table) for name in empty},
        }


def columns_of(table: Table | None) -> Iterator[Row]:
    """Yield the rows of system_schema.columns for a table."""
    table = table or Table({"table_name": "text"}, ["table_name"])
    for name, kind in table.columns.items():
        key = next((one for one in ("partition", "clustering") if name in getattr(table, one)), "")
        yield {
            "column_name": name, "type": kind, "kind": {"partition": "partition_key", "": "regular"}.get(key, key),
            "clustering_order": "asc" if key == "clustering" else "none",
            "position": list(getattr(table, key)).index(name) if key else -1,
        }  # fmt: skip


def selected(text: str, table: Table) -> tuple[str, Any, Callable[[Row], Any]]:
    """Return the name, the type and the value of one selected column."""
    if found := re.fullmatch(r"toUnixTimestamp\((\w+)\)", text):
        return text, cql_type("bigint"), lambda row: row.get(found[1])
    return text, cql_type(table.columns[text]), lambda row: row.get(text)


def cql_type(name: str) -> Any:
    """Return the driver's class of a type."""
    if found := re.fullmatch(r"(list|set|map)<(.+)>", name):
        parameters = [cql_type(one.strip()) for one in found[2].split(",")]
        return {"list": cqltypes.ListType, "set": cqltypes.SetType, "map": cqltypes.MapType}[found[1]].apply_parameters(
            parameters
        )
    return cqltypes._cqltypes[name]


def read_parameters(body: io.BytesIO) -> tuple[list[bytes], int, int]:
    """Return the values, the size of a page, and where the page starts."""
    _consistency, flags = struct.unpack(">HB", body.read(3))
    values = [protocol.read_value(body) for _ in range(protocol.read_short(body))] if flags & 1 else []
    page_size = protocol.read_int(body) if flags & 4 else 10_000
    state = protocol.read_value(body) if flags & 8 else None
    return values, page_size, int(state or 0)


def write_columns(out: io.BytesIO, table: str, columns: Sequence[tuple[str, Any]]) -> None:
    """Write a table's name, and columns with their types by name."""
    for name in table.split("."):
        protocol.write_string(out, name)
    for name, kind in columns:
        protocol.write_string(out, name)
        protocol.write_short(out, 0)
        protocol.write_string(out, kind.cass_parameterized_type(full=True))


def written(write: Callable[[Any, Any], None], value: Any) -> bytes:
    out = io.BytesIO()
    write(out, value)
    return out.getvalue()


def error(code: int, message: str) -> bytes:
    return struct.pack(">i", code) + written(protocol.write_string, message)


@contextmanager
def running(server: YcqlServer) -> Iterator[YcqlServer]:
    """Let the nodes answer until the block ends."""

    class Handler(StreamRequestHandler):
        def handle(self) -> None:
            while len(header := self.rfile.read(9)) == 9:
                version, _flags, stream, opcode, length = struct.unpack(">BBhBi", header)
                body = io.BytesIO(self.rfile.read(length))
                server.versions.add(version)
                if version != VERSION:
                    opcode, answer = ERROR, error(PROTOCOL_ERROR, f"Invalid or unsupported protocol version {version}")
                else:
                    opcode, answer = server.answer(opcode, body, self.server.server_address[0])
                self.wfile.write(struct.pack(">BBhBi", 0x80 | VERSION, 0, stream, opcode, len(answer)) + answer)

    class Node(ThreadingTCPServer):
        allow_reuse_address = True
        daemon_threads = True
        block_on_close = False

    with ExitStack() as stack:
        for address in server.addresses:
            node = stack.enter_context(Node((address, server.port), Handler))
            server.port = node.server_address[1]
            thread = threading.Thread(target=node.serve_forever, kwargs={"poll_interval": 0.02})
            thread.start()
            stack.callback(thread.join)
            stack.callback(node.shutdown)
        yield server
