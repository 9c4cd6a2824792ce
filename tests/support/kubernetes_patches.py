"""What an API server does with patches: merge, strategic merge, and server-side apply.

Fields are paths of steps as managed fields write them: `f:spec`, `k:{"name":"web"}`, `v:"a"`.
"""

import copy
import json

import jsonpatch

OWN = frozenset(
    (
        *("name", "namespace", "uid", "resourceVersion", "generation", "creationTimestamp"),
        *("managedFields", "generateName", "deletionTimestamp", "deletionGracePeriodSeconds"),
    )
)
"""What of an object's metadata nobody manages."""
_IDENTITY = ("apiVersion", "kind")


class FieldConflict(Exception):
    """Others manage fields that an apply would change."""

    def __init__(self, conflicts):
        super().__init__("conflict")
        self.conflicts = conflicts


def merge_patch(old, patch):
    """RFC 7386."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    new = dict(old) if isinstance(old, dict) else {}
    for name, value in patch.items():
        if value is None:
            new.pop(name, None)
        else:
            new[name] = merge_patch(new.get(name), value)
    return new


def json_patch(old, patch):
    """RFC 6902."""
    return jsonpatch.apply_patch(old, patch)


def strategic_patch(old, patch, place):
    """Merge, lists too where the schema has a key to tell their items apart."""
    patch = dict(patch)
    if patch.pop("$patch", None) == "replace":
        return patch
    new = dict(old) if isinstance(old, dict) else {}
    if (kept := patch.pop("$retainKeys", None)) is not None:
        new = {name: value for name, value in new.items() if name in kept}
    for name, value in patch.items():
        directive, _, listed = name.partition("/")
        if directive == "$deleteFromPrimitiveList":
            new[listed] = [item for item in new.get(listed, []) if item not in value]
        elif directive != "$setElementOrder":
            _patch_field(new, name, value, place and place.child(name))
    return new


def _patch_field(new, name, value, place):
    if value is None or (isinstance(value, dict) and value.get("$patch") == "delete"):
        new.pop(name, None)
    elif isinstance(value, dict):
        new[name] = strategic_patch(new.get(name), value, place)
    elif isinstance(value, list) and place and place.merge_key is not None:
        new[name] = _patch_list(new.get(name) or [], value, place)
    else:
        new[name] = value


def _patch_list(old, patch, place):
    key = place.merge_key
    if not key:
        return old + [item for item in patch if item not in old]
    if any(item.get("$patch") == "replace" for item in patch):
        return [item for item in patch if "$patch" not in item]
    new = list(old)
    for item in patch:
        at = next((i for i, there in enumerate(new) if there.get(key) == item.get(key)), None)
        if item.get("$patch") == "delete":
            if at is not None:
                del new[at]
        elif at is None:
            new.append(strategic_patch({}, item, place.items))
        else:
            new[at] = strategic_patch(new[at], item, place.items)
    return new


def leaves(value, place, path=()):
    """Give an object's fields: the path of each to its value."""
    if isinstance(value, dict) and value and not (place and place.is_atomic):
        found = {}
        for name, field in value.items():
            if name in (_IDENTITY if not path else OWN if path == ("f:metadata",) else ()):
                continue
            found |= leaves(field, place and place.child(name), (*path, f"f:{name}"))
        return found
    if isinstance(value, list) and value and place:
        if place.list_type == "set":
            return {(*path, f"v:{_json(item)}"): item for item in value}
        if place.list_type == "map":
            found = {}
            for item in value:
                found |= leaves(item, place.items, (*path, f"k:{_json(place.key_of(item))}"))
            return found
    return {path: value}


def apply(old, applied, place, manager, *, force, version, subresource=""):
    """Server-side apply.

    Returns:
        The new object, its managed fields included.

    Raises:
        FieldConflict: Others manage what it would change, and it shall not be forced.
    """
    wanted, there = leaves(applied, place), leaves(old, place)
    owners = read_managers(old)
    mine = (manager, "Apply", subresource)
    others = {who: fields for who, fields in owners.items() if who != mine}
    changed = {path for path in wanted if path not in there or there[path] != wanted[path]}
    conflicts = [(who[0], path) for who, fields in others.items() for path in fields & changed]
    if conflicts and not force:
        raise FieldConflict(conflicts)
    new = copy.deepcopy(_merged(old, applied, place))
    for fields in others.values():
        fields -= changed
    dropped = owners.get(mine, set()) - set(wanted) - set().union(*others.values())
    for path in sorted(dropped, key=lambda path: _is_key(path, place)):
        _remove(new, path, place)
    owners[mine] = set(wanted)
    return _with_managers(new, owners, old, version)


def update(old, new, place, manager, *, version, subresource=""):
    """Note who manages what after a change that was no apply.

    Returns:
        The new object, its managed fields included.
    """
    before, after = leaves(old, place), leaves(new, place)
    source = new if "managedFields" in new.get("metadata", {}) else old
    owners = read_managers(source)
    changed = {path for path in after if path not in before or before[path] != after[path]}
    for fields in owners.values():
        fields -= changed | (before.keys() - after.keys())
    if changed:
        owners.setdefault((manager, "Update", subresource), set()).update(changed)
    return _with_managers(new, owners, source, version)


def read_managers(document):
    """Give who manages which fields: by manager, operation and subresource."""
    return {
        (entry["manager"], entry["operation"], entry.get("subresource", "")): set(
            _read_fields(entry.get("fieldsV1", {}))
        )
        for entry in document.get("metadata", {}).get("managedFields", ())
        if entry
    }


def _with_managers(document, owners, old, version):
    before = {
        (e["manager"], e["operation"], e.get("subresource", "")): e["apiVersion"]
        for e in old.get("metadata", {}).get("managedFields", ())
        if e
    }
    entries = []
    for (manager, operation, subresource), fields in owners.items():
        if not fields:
            continue
        entry = {
            "manager": manager,
            "operation": operation,
            "apiVersion": before.get((manager, operation, subresource), version),
            "fieldsType": "FieldsV1",
            "fieldsV1": _write_fields(fields),
        }
        entries.append(entry | ({"subresource": subresource} if subresource else {}))
    metadata = {k: v for k, v in document["metadata"].items() if k != "managedFields"}
    return document | {"metadata": metadata | {"managedFields": entries}}


def _read_fields(tree, path=()):
    below = [step for step in tree if step != "."]
    if not below and path:
        yield path
    for step in below:
        yield from _read_fields(tree[step], (*path, step))


def _write_fields(paths):
    tree = {}
    for path in sorted(paths):
        here = tree
        for step in path:
            here = here.setdefault(step, {".": {}} if step.startswith("k:") else {})
    return tree


def _merged(old, new, place):
    if isinstance(old, dict) and isinstance(new, dict) and not (place and place.is_atomic):
        merged = dict(old)
        for name, value in new.items():
            below = place and place.child(name)
            merged[name] = _merged(old[name], value, below) if name in old else value
        return merged
    if isinstance(old, list) and isinstance(new, list) and place:
        if place.list_type == "set":
            return old + [item for item in new if item not in old]
        if place.list_type == "map":
            items = {_json(place.key_of(item)): item for item in old}
            for item in new:
                key = _json(place.key_of(item))
                items[key] = _merged(items[key], item, place.items) if key in items else item
            return list(items.values())
    return copy.deepcopy(new)


def _remove(value, path, place):
    """Remove a field, and what is empty without it."""
    step, rest = path[0], path[1:]
    if step.startswith("f:"):
        name = step[2:]
        if not isinstance(value, dict) or name not in value:
            return
        if rest:
            _remove(value[name], rest, place and place.child(name))
        if not rest or value[name] in ({}, []):
            del value[name]
        return
    for at, item in enumerate(value):
        if step.startswith("v:") and _json(item) == step[2:]:
            del value[at]
            return
        if step.startswith("k:") and _json(place.key_of(item)) == step[2:]:
            is_key = len(rest) == 1 and rest[0][2:] in place.list_keys
            if is_key and set(item) <= set(place.list_keys):
                del value[at]
            elif not is_key:
                _remove(item, rest, place.items)
            return


def _is_key(path, place):
    """Whether a field tells an item of a list from the others: those go last."""
    return len(path) > 1 and path[-2].startswith("k:") and f'"{path[-1][2:]}":' in path[-2]


def _json(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":"))
