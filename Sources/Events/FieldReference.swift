//  Field references: `status`, `[a][b]`, `[list][-1]`, `[@metadata][x]`. Parsed once, then walked without look-ups
//  by text: every part carries its hash, and its number where it reads as one.

internal import Diagnostics
internal import Glibc

/// Why a text is no field reference.
public struct FieldReferenceError: Error, Equatable, Sendable, CustomStringConvertible {
  public let text: String
  public var description: String { "'\(text)' is no field reference; write 'name', '[name]' or '[outer][inner]'" }
}

/// A parsed field reference. Immutable; any thread may use it.
public final class FieldReference: @unchecked Sendable, Hashable, CustomStringConvertible {
  // unchecked: written in `init` alone
  public enum Root: Sendable { case data, metadata }

  @usableFromInline
  struct Part {
    @usableFromInline var key: Key
    /// The number that the part reads as, for lists; `Int.min` where it is none.
    @usableFromInline var index: Int
  }

  /// The reference as it was written.
  public let description: String
  public let root: Root
  @usableFromInline let parts: UnsafeMutablePointer<Part>
  @usableFromInline let count: Int
  private let keys: UnsafeMutablePointer<UInt8>
  /// What writing must look at: `@timestamp` takes timestamps alone, `tags` texts alone.
  @usableFromInline let special: Special

  /// Set for references that live for one call: writing copies their keys.
  let isTransient: Bool

  @usableFromInline enum Special: UInt8 { case none, timestamp, tags, belowTags }

  /// - Parameter isTransient: True for a reference that does not outlive the batches it is used on.
  public convenience init(_ text: String, isTransient: Bool = false) throws(FieldReferenceError) {
    try self.init(bytes: Array(text.utf8), isTransient: isTransient)
  }

  public init(bytes text: [UInt8], isTransient: Bool = false) throws(FieldReferenceError) {
    self.isTransient = isTransient
    guard let names = FieldReference.split(text) else {
      throw FieldReferenceError(text: String(decoding: text, as: UTF8.self))
    }
    let isMetadata = names.first == Array("@metadata".utf8)
    root = isMetadata ? .metadata : .data
    let parts = isMetadata ? Array(names.dropFirst()) : names
    count = parts.count
    description = String(decoding: text, as: UTF8.self)
    let keys = UnsafeMutablePointer<UInt8>.allocate(capacity: parts.reduce(0) { $0 + $1.count } + 64)
    keys.initialize(repeating: 0, count: parts.reduce(0) { $0 + $1.count } + 64)
    self.keys = keys
    self.parts = .allocate(capacity: max(1, parts.count))
    var offset = 0
    for (i, name) in parts.enumerated() {
      name.withUnsafeBufferPointer { source in
        if let base = source.baseAddress { memcpy(keys + offset, base, source.count) }
      }
      let key = Key(padded: keys + offset, count: min(name.count, Key.limitBytes))
      (self.parts + i).initialize(to: Part(key: key, index: FieldReference.number(name)))
      offset += name.count
    }
    if !isMetadata, let first = parts.first {
      switch first {
      case Array("@timestamp".utf8): special = parts.count == 1 ? .timestamp : .none
      case Array("tags".utf8): special = parts.count == 1 ? .tags : .belowTags
      default: special = .none
      }
    } else {
      special = .none
    }
  }

  deinit {
    parts.deallocate()
    keys.deallocate()
  }

  /// A reference that is part of the program and known to parse.
  public static func known(_ text: StaticString) -> FieldReference {
    do { return try FieldReference(text.description) } catch { preconditionFailure("\(error)") }
  }

  public static let timestamp = known("@timestamp")
  public static let version = known("@version")
  public static let tags = known("tags")
  public static let message = known("message")

  /// True for `[@metadata]` as a whole.
  @usableFromInline var isWholeMetadata: Bool { @inline(__always) get { count == 0 } }

  /// The key of a field of the event itself that takes any value; nil for every other reference, and for one that does
  /// not last. Good as long as the reference lives.
  public var plainName: Key? {
    root == .data && count == 1 && special == .none && !isTransient ? parts.pointee.key : nil
  }

  /// The name of the field, when the reference is of one part at the top.
  public var topLevelName: String? {
    root == .data && count == 1 ? String(decoding: parts[0].key.bytes, as: UTF8.self) : nil
  }

  /// The parts as texts, `@metadata` first where the reference lies there.
  public var path: [String] {
    (root == .metadata ? ["@metadata"] : []) + (0..<count).map { String(decoding: parts[$0].key.bytes, as: UTF8.self) }
  }

  /// This reference with one more part.
  public func appending(_ name: String) -> FieldReference {
    let text = path.map { "[\($0)]" }.joined() + "[\(name)]"
    return (try? FieldReference(text)) ?? self
  }

  public static func == (left: FieldReference, right: FieldReference) -> Bool {
    left === right
      || (left.root == right.root && left.count == right.count
        && (0..<left.count).allSatisfy { left.parts[$0].key.equals(right.parts[$0].key) })
  }
  public func hash(into hasher: inout Hasher) {
    hasher.combine(root)
    for i in 0..<count { hasher.combine(parts[i].key.hash) }
  }

  /// The names that a reference is made of, or nil where it is broken.
  private static func split(_ text: [UInt8]) -> [[UInt8]]? {
    let open = UInt8(ascii: "[")
    let close = UInt8(ascii: "]")
    guard text.contains(open) || text.contains(close) else { return [text] }
    var names: [[UInt8]] = []
    var i = 0
    /// One `[…]`: a name, or references again.
    func bracket(_ depth: Int) -> Bool {
      guard depth < 64, i < text.count, text[i] == open else { return false }
      i += 1
      if i < text.count, text[i] == open {
        while i < text.count, text[i] == open { guard bracket(depth + 1) else { return false } }
      } else {
        let start = i
        while i < text.count, text[i] != open, text[i] != close { i += 1 }
        guard i > start else { return false }
        names.append(Array(text[start..<i]))
      }
      guard i < text.count, text[i] == close else { return false }
      i += 1
      return true
    }
    while i < text.count { guard bracket(0) else { return nil } }
    return names
  }

  private static func number(_ name: [UInt8]) -> Int {
    guard !name.isEmpty, name.count <= 10 else { return .min }
    var digits = name[...]
    var negative = false
    if let first = digits.first, first == 43 || first == 45 {
      negative = first == 45
      digits = digits.dropFirst()
    }
    guard !digits.isEmpty else { return .min }
    var value = 0
    for digit in digits {
      guard digit &- 48 < 10 else { return .min }
      value = value * 10 + Int(digit - 48)
    }
    return negative ? -value : value
  }
}
