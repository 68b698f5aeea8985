//  The body of an order on dead letters that comes over the monitoring API, read strictly: what is not known is refused, so
//  that a misspelt condition never means all letters.

internal import Diagnostics
internal import Events
internal import Queue

/// Why a request on dead letters is not done.
struct APIRefusal: Error {
  let status: Int
  let text: String
  init(_ status: Int, _ text: String) {
    self.status = status
    self.text = text
  }
}

/// The body of an order.
struct LetterOrder {
  var letters: [DeadLetterPosition] = []
  var condition: String?
  var all = false
  /// Letters before this one are not meant.
  var from: DeadLetterPosition?
  var pipeline: String?
  var mending = Mending()
  var isDryRun = false

  init(_ body: borrowing ByteBuffer, allowsMending: Bool) throws(APIRefusal) {
    let batch = EventBatch()
    defer { withExtendedLifetime(batch) {} }
    guard let map = try? batch.add(arrivalNs: 0).parseJSON(body.bytes), map.isMap else {
      throw APIRefusal(400, "the body is no JSON object")
    }
    var member = map.first
    while let present = member {
      member = present.next
      let name = String(decoding: present.key.bytes, as: UTF8.self)
      switch name {
      case "letters": letters = try LetterOrder.positions(present)
      case "where": condition = try LetterOrder.text(present, name)
      case "all": all = try LetterOrder.flag(present, name)
      case "from":
        from = DeadLetterPosition(try LetterOrder.text(present, name))
        if from == nil { throw APIRefusal(400, "'from' is no letter; they are named as 17-3 is") }
      case "pipeline" where allowsMending: pipeline = try LetterOrder.text(present, name)
      case "dry_run" where allowsMending: isDryRun = try LetterOrder.flag(present, name)
      case "set" where allowsMending: try takeSets(present)
      case "remove" where allowsMending: try takeRemoves(present)
      default: throw APIRefusal(400, "there is no member '\(name.prefix(64))' here")
      }
    }
    guard all || condition != nil || !letters.isEmpty else {
      throw APIRefusal(400, "name 'letters', a condition 'where', or 'all': true")
    }
  }

  private static func text(_ value: Value, _ name: String) throws(APIRefusal) -> String {
    guard let text = value.string else { throw APIRefusal(400, "'\(name)' is a text") }
    return text
  }

  private static func flag(_ value: Value, _ name: String) throws(APIRefusal) -> Bool {
    guard let flag = value.boolean else { throw APIRefusal(400, "'\(name)' is true or false") }
    return flag
  }

  private static func positions(_ list: Value) throws(APIRefusal) -> [DeadLetterPosition] {
    guard list.isList else { throw APIRefusal(400, "'letters' is a list of names such as \"17-3\"") }
    var found: [DeadLetterPosition] = []
    var element = list.first
    while let present = element {
      element = present.next
      guard let position = present.string.flatMap({ DeadLetterPosition($0) }) else {
        throw APIRefusal(400, "'letters' is a list of names such as \"17-3\"")
      }
      found.append(position)
    }
    return found
  }

  private mutating func takeSets(_ map: Value) throws(APIRefusal) {
    guard map.isMap else { throw APIRefusal(400, "'set' is an object of fields and values") }
    var member = map.first
    while let present = member {
      member = present.next
      let name = String(decoding: present.key.bytes, as: UTF8.self)
      guard let field = try? FieldReference(name) else {
        throw APIRefusal(400, "'\(name.prefix(64))' is no field reference")
      }
      var value = ByteBuffer()
      present.appendJSON(to: &value)
      mending.sets.append((field, value.array()))
    }
  }

  private mutating func takeRemoves(_ list: Value) throws(APIRefusal) {
    guard list.isList else { throw APIRefusal(400, "'remove' is a list of fields") }
    var element = list.first
    while let present = element {
      element = present.next
      guard let name = present.string, mending.take(remove: name) == nil else {
        throw APIRefusal(400, "'remove' holds what is no field reference")
      }
    }
  }
}
