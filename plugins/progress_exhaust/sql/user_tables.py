"""Statements on Sunbird's tables of users, places and organisations, and on hierarchy_relations.

`{…}` stands for a keyspace of the validated settings. No statement reads a contact column.
"""

# The columns that we read, with the types that Sunbird gives them.
USER_COLUMNS = {
    "id": "text",
    "firstname": "text",
    "lastname": "text",
    "rootorgid": "text",
    "status": "int",
    "isdeleted": "boolean",
    "profilelocation": "text",
    "profileusertype": "text",
    "profileusertypes": "text",
    "framework": "map<text, frozen<list<text>>>",
}
LOCATION_COLUMNS = {"id": "text", "name": "text", "code": "text"}
ORGANISATION_COLUMNS = {"id": "text", "orgname": "text"}
RELATION_COLUMNS = {"relationship_key": "text", "node_ids": "list<text>"}

# Read some users. `<columns>` stands for those of USER_COLUMNS that the layout needs.
USERS = "SELECT id, <columns> FROM {users}.user WHERE id IN ?"

# Read the names and codes of places: states, districts, blocks, clusters and schools.
LOCATIONS = "SELECT id, name, code FROM {users}.location WHERE id IN ?"

# Read the names of organisations.
ORGANISATIONS = "SELECT id, orgname FROM {users}.organisation WHERE id IN ?"

# Read the contents of a collection that do not count towards completion.
OPTIONAL_NODES = "SELECT node_ids FROM {relations} WHERE relationship_key = ?"
