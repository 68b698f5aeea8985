//  Runs scripts: a walk of the tree within a bound of steps. One worker owns a runner, and a script runs under the lock of
//  its task's shard, so it does memory work alone.

internal import Diagnostics
internal import Events

/// What a script sees beside its event.
struct ScriptTask {
  var map: ScriptMap
  /// Seconds, as set by the script; nil for those of the filter.
  var timeout: Double?
  var inactivityTimeout: Double?
}

final class ScriptRunner {
  private var locals: [ScriptValue] = []
  private var steps = 0
  private var text = ByteBuffer(capacity: 256)
  private var emit: (ScriptMap) throws -> Void = { _ in }
  var task = ScriptTask(map: ScriptMap())

  /// Runs `script` on `event` and `task`; what the script changed before a failure stays.
  ///
  /// - Parameter emit: Takes the fields of each event that the script makes.
  /// - Returns: Why it failed; nil when it ran to its end.
  func run(_ script: Script, _ event: Event, emit: (ScriptMap) throws -> Void) -> String? {
    withoutActuallyEscaping(emit) { emit in
      self.emit = emit
      defer { self.emit = { _ in } }
      locals.removeAll(keepingCapacity: true)
      for _ in 0..<script.localCount { locals.append(.null) }
      steps = 0
      do {
        _ = try evaluate(script.body, event)
        return nil
      } catch ScriptFailure.leave {
        return nil
      } catch ScriptFailure.error(let reason) {
        return reason
      } catch {
        return "\(error)"
      }
    }
  }

  private func evaluate(_ node: ScriptNode, _ event: Event) throws -> ScriptValue {
    steps &+= 1
    guard steps < ScriptLimit.steps else { throw ScriptFailure.error("it takes more than 200,000 steps") }
    switch node {
    case .null: return .null
    case .boolean(let value): return .boolean(value)
    case .integer(let value): return .integer(value)
    case .double(let value): return .double(value)
    case .text(let bytes): return .text(bytes)
    case .interpolated(let nodes):
      var bytes: [UInt8] = []
      for node in nodes { bytes += try evaluate(node, event).textBytes }
      guard bytes.count <= ScriptLimit.textBytes else { throw ScriptFailure.error("a text grew beyond 1 MiB") }
      return .text(bytes)
    case .list(let nodes):
      let list = ScriptList()
      for node in nodes { try list.append(try evaluate(node, event)) }
      return .list(list)
    case .hash(let nodes):
      let map = ScriptMap()
      for i in stride(from: 0, to: nodes.count - 1, by: 2) {
        try map.set(try evaluate(nodes[i], event).textBytes, try evaluate(nodes[i + 1], event))
      }
      return .map(map)
    case .map: return .map(task.map)
    case .now: return .timestamp(.now)
    case .local(let place): return locals[place]
    case .meta(let meta): return value(of: meta)
    case .element(let holder, let key):
      return try ScriptMethod.element(try evaluate(holder, event), try evaluate(key, event)) ?? .null
    case .method(let receiver, let method, let nodes, let block, let isSafe):
      let value = try evaluate(receiver, event)
      if isSafe, value.isNull { return .null }
      var arguments: [ScriptValue] = []
      for node in nodes { arguments.append(try evaluate(node, event)) }
      if let block { return try iterate(value, method, block, event) }
      return try method.call(value, arguments)
    case .event(let call): return try ask(event, call)
    case .assign(let target, let node):
      let value = try evaluate(node, event)
      try assign(value, to: target, event)
      return value
    case .change(let target, let change, let node):
      let before = try read(target, event)
      let value = try change.apply(before, try evaluate(node, event))
      try assign(value, to: target, event)
      return value
    case .fill(let target, let node):
      let before = try read(target, event)
      if before.isTrue { return before }
      let value = try evaluate(node, event)
      try assign(value, to: target, event)
      return value
    case .negate(let node): return try ScriptOperator.minus.apply(.integer(0), try evaluate(node, event))
    case .not(let node): return .boolean(!(try evaluate(node, event).isTrue))
    case .binary(let sign, let left, let right):
      return try sign.apply(try evaluate(left, event), try evaluate(right, event))
    case .both(let left, let right):
      let value = try evaluate(left, event)
      return value.isTrue ? try evaluate(right, event) : value
    case .either(let left, let right):
      let value = try evaluate(left, event)
      return value.isTrue ? value : try evaluate(right, event)
    case .choice(let condition, let then, let otherwise):
      return try evaluate(try evaluate(condition, event).isTrue ? then : otherwise, event)
    case .sequence(let nodes):
      var last = ScriptValue.null
      for node in nodes { last = try evaluate(node, event) }
      return last
    case .raise(let node):
      let bytes = try evaluate(node, event).textBytes
      throw ScriptFailure.error("raised '\(String(decoding: bytes, as: UTF8.self))'")
    case .emit(let node):
      guard case .map(let map) = try evaluate(node, event) else {
        throw ScriptFailure.error("'new_event_block.call' takes an event or a map")
      }
      try emit(map)
      return .null
    case .leave: throw ScriptFailure.leave
    }
  }

  // MARK: Blocks

  private func call(_ block: ScriptBlock, _ values: [ScriptValue], _ event: Event) throws -> ScriptValue {
    // One value that is a list is taken apart where several parameters wait for it.
    var given = values
    if given.count == 1, block.parameters.count > 1, case .list(let list) = given[0] { given = list.elements }
    for (i, place) in block.parameters.enumerated() { locals[place] = i < given.count ? given[i] : .null }
    do {
      return try evaluate(block.body, event)
    } catch ScriptFailure.leave {
      return .null
    }
  }

  private func iterate(
    _ value: ScriptValue, _ method: ScriptMethod, _ block: ScriptBlock, _ event: Event
  ) throws -> ScriptValue {
    // A copy of the elements: the block may change what it walks over.
    let elements: [ScriptValue]
    switch value {
    case .list(let list): elements = list.elements
    case .map(let map): elements = map.entries.map { .list(ScriptList([.text($0.key), $0.value])) }
    default: throw ScriptFailure.error("\(value.kindName) has no method '\(method.rawValue)'")
    }
    var kept: [ScriptValue] = []
    var count: Int64 = 0
    for (i, element) in elements.enumerated() {
      let result = try call(block, method == .eachWithIndex ? [element, .integer(Int64(i))] : [element], event)
      switch method {
      case .mapped, .sum: kept.append(result)
      case .select: if result.isTrue { kept.append(element) }
      case .reject: if !result.isTrue { kept.append(element) }
      case .find: if result.isTrue { return element }
      case .any: if result.isTrue { return .boolean(true) }
      case .all: if !result.isTrue { return .boolean(false) }
      case .none: if result.isTrue { return .boolean(false) }
      case .count: count += result.isTrue ? 1 : 0
      default: break
      }
    }
    switch method {
    case .each, .eachWithIndex: return value
    case .find: return .null
    case .any: return .boolean(false)
    case .all, .none: return .boolean(true)
    case .count: return .integer(count)
    case .sum: return try method.sum(kept)
    case .select, .reject:
      guard case .map = value else { return .list(ScriptList(kept)) }
      let map = ScriptMap()
      for case .list(let pair) in kept { try map.set(pair.elements[0].textBytes, pair.elements[1]) }
      return .map(map)
    default: return .list(ScriptList(kept))
    }
  }

  // MARK: Places

  private func value(of meta: ScriptMeta) -> ScriptValue {
    let seconds = meta == .timeout ? task.timeout : task.inactivityTimeout
    return seconds.map { Int64(exactly: $0).map { .integer($0) } ?? .double($0) } ?? .null
  }

  private func read(_ target: ScriptTarget, _ event: Event) throws -> ScriptValue {
    switch target {
    case .local(let place): return locals[place]
    case .meta(let meta): return value(of: meta)
    case .timestamp: return event.timestamp.map { .timestamp($0) } ?? .null
    case .element(let holder, let key):
      return try ScriptMethod.element(try evaluate(holder, event), try evaluate(key, event)) ?? .null
    }
  }

  private func assign(_ value: ScriptValue, to target: ScriptTarget, _ event: Event) throws {
    switch target {
    case .local(let place): locals[place] = value
    case .meta(let meta):
      let seconds = value.number
      guard seconds != nil || value.isNull else {
        throw ScriptFailure.error("'map_meta.\(meta.rawValue)' takes seconds, not \(value.kindName)")
      }
      if meta == .timeout { task.timeout = seconds } else { task.inactivityTimeout = seconds }
    case .timestamp:
      guard case .timestamp(let time) = value else {
        throw ScriptFailure.error("'event.timestamp' takes a timestamp, not \(value.kindName)")
      }
      try? event.set(.timestamp, .timestamp(time))
    case .element(let holder, let key):
      switch (try evaluate(holder, event), try evaluate(key, event)) {
      case (.map(let map), let key): try map.set(key.textBytes, value)
      case (.list(let list), .integer(let index)):
        let place = index < 0 ? index + Int64(list.elements.count) : index
        guard place >= 0, place < ScriptLimit.elements else {
          throw ScriptFailure.error("there is no element \(index)")
        }
        while list.elements.count <= Int(place) { list.elements.append(.null) }
        list.elements[Int(place)] = value
      case (let other, _): throw ScriptFailure.error("\(other.kindName) takes no elements")
      }
    }
  }

  // MARK: The event

  private func reference(_ written: ScriptReference, _ event: Event) throws -> FieldReference {
    switch written {
    case .constant(let reference): return reference
    case .computed(let node):
      let bytes = try evaluate(node, event).textBytes
      guard let reference = try? FieldReference(bytes: bytes, isTransient: true) else {
        throw ScriptFailure.error("'\(String(decoding: bytes.prefix(64), as: UTF8.self))' is no field reference")
      }
      return reference
    }
  }

  private func ask(_ event: Event, _ call: ScriptEventCall) throws -> ScriptValue {
    switch call {
    case .get(let written): return event.value(try reference(written, event)).map { ScriptValue($0) } ?? .null
    case .includes(let written): return .boolean(event.contains(try reference(written, event)))
    case .set(let written, let node):
      let value = try evaluate(node, event)
      let bits = try value.bits(event)
      guard event.write(try reference(written, event), bits) else {
        throw ScriptFailure.error("\(value.kindName) cannot be written to that field")
      }
      return value
    case .remove(let written):
      let reference = try reference(written, event)
      let before = event.value(reference).map { ScriptValue($0) }
      event.remove(reference)
      return before ?? .null
    case .tag(let node):
      try evaluate(node, event).textBytes.withUnsafeBytes { event.addTag($0, unlessPresent: true) }
      return .null
    case .cancel:
      event.cancel()
      return .null
    case .isCancelled: return .boolean(event.isCancelled)
    case .timestamp: return event.timestamp.map { .timestamp($0) } ?? .null
    case .fields: return .map(ScriptMap(event.fields))
    case .sprintf(let template):
      text.removeAll()
      _ = try template.append(event, to: &text)
      return .text(text.bytes.isEmpty ? [] : Array(text.bytes))
    }
  }
}
