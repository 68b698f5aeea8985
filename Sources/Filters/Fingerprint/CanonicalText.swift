//  Values as one text whatever the order of their keys: what a fingerprint of nested data is made of.

internal import Diagnostics
internal import Events
internal import Glibc

/// Prints values in their canonical form. One worker owns it; its memory is reused.
struct CanonicalText {
  /// Members of the maps that are being printed, those of the outermost first.
  private var members: [Value] = []

  /// Appends `value`: scalars as texts, null as nothing, lists by their elements and maps by their sorted keys and values,
  /// with a bar between.
  mutating func append(_ value: Value, to out: inout ByteBuffer) {
    switch value.kind {
    case .null: break
    case .list:
      var child = value.first
      while let element = child {
        append(element, to: &out)
        child = element.next
        if child != nil { out.append(124) }
      }
    case .map:
      append(membersOf: value, to: &out)
    default: value.appendRubyText(to: &out)
    }
  }

  /// Appends the members of a map, with a bar between.
  mutating func append(membersOf map: Value, to out: inout ByteBuffer) {
    let start = members.count
    var child = map.first
    while let member = child {
      members.append(member)
      child = member.next
    }
    let end = members.count
    members[start...].sort { CanonicalText.precedes($0.key, $1.key) }
    for i in start..<end {
      if i > start { out.append(124) }
      out.append(members[i].key.bytes)
      out.append(124)
      append(members[i], to: &out)
    }
    members.removeLast(end - start)
  }

  private static func precedes(_ left: Key, _ right: Key) -> Bool {
    let order = memcmp(left.start, right.start, min(left.count, right.count))
    return order == 0 ? left.count < right.count : order < 0
  }
}
