//  A document as maps, lists and texts, in the shape that configurations from Logstash expect.
//
//  An element becomes a map of its attributes and children, where equal names share a list; one that holds text alone
//  becomes that text. Text beside attributes or children goes to `content`. The root's own name is not kept.

internal import Diagnostics
internal import Events

struct XMLConversion {
  /// Children of equal or single name always stand in a list.
  var forcesLists: Bool
  /// A text always stands in a map, as `content`.
  var forcesContent: Bool
  /// What is empty is left out; the document as a whole is null then.
  var suppressesEmpty: Bool

  /// The value of an element, and whether it is empty.
  func convert(_ element: XMLNode, _ event: Event, _ room: inout ByteBuffer) -> (bits: ValueBits, isEmpty: Bool) {
    let map = event.makeMap()
    element.forEachAttribute(&room) { prefix, name, value in
      let key: Key
      if prefix.isEmpty {
        key = event.makeKey(name)
      } else {
        let full = event.allocate(prefix.count + 1 + name.count)
        for i in 0..<prefix.count { full[i] = prefix[i] }
        full[prefix.count] = UInt8(ascii: ":")
        for i in 0..<name.count { full[prefix.count + 1 + i] = name[i] }
        key = event.makeKey(UnsafeRawBufferPointer(start: full, count: prefix.count + 1 + name.count))
      }
      merge(event.makeText(value), key, into: map, inList: false, event)
    }
    let contentKey = event.makeKey(XMLConversion.contentName)
    var hasElements = false
    var child = element.firstChild
    while let present = child {
      if present.isElement {
        hasElements = true
        let (bits, isEmpty) = convert(present, event, &room)
        if !(isEmpty && suppressesEmpty) {
          let name = present.localName
          merge(
            isEmpty ? event.makeMap().bits : bits, event.makeKey(name), into: map,
            inList: forcesLists && !name.elementsEqual(XMLConversion.contentName), event)
        }
      }
      child = present.next
    }
    if hasElements {
      addTexts(of: element, contentKey, to: map, event)
    } else if let text = text(of: element, event) {
      if map.count == 0, !forcesContent { return (text, false) }
      merge(text, contentKey, into: map, inList: false, event)
    }
    return (map.bits, map.count == 0)
  }

  private static var contentName: UnsafeRawBufferPointer {
    let name: StaticString = "content"
    return UnsafeRawBufferPointer(start: name.utf8Start, count: name.utf8CodeUnitCount)
  }

  /// Puts a value beside those that stand under `key` already.
  private func merge(_ bits: ValueBits, _ key: Key, into map: Value, inList: Bool, _ event: Event) {
    if let present = map.member(key) {
      present.putBeside(bits, event)
    } else if inList {
      let list = event.makeList()
      list.append(bits)
      map.set(key, list.bits)
    } else {
      map.set(key, bits)
    }
  }

  /// Texts between elements; those of white space alone are left out.
  private func addTexts(of element: XMLNode, _ key: Key, to map: Value, _ event: Event) {
    var child = element.firstChild
    while let present = child {
      if present.isText, !present.text.allSatisfy(isSpace) {
        merge(event.makeText(present.text), key, into: map, inList: false, event)
      }
      child = present.next
    }
  }

  /// The text of an element without children; nil where it is white space alone.
  private func text(of element: XMLNode, _ event: Event) -> ValueBits? {
    var single: XMLNode?
    var count = 0
    var isBlank = true
    var child = element.firstChild
    while let present = child {
      if present.isText {
        single = present
        count += 1
        isBlank = isBlank && present.text.allSatisfy(isSpace)
      }
      child = present.next
    }
    guard !isBlank, let single else { return nil }
    if count == 1 { return event.makeText(single.text) }
    return event.makeText { out in
      var child = element.firstChild
      while let present = child {
        if present.isText { out.append(present.text) }
        child = present.next
      }
    }
  }
}
