//  An option is declared once: name, place in the settings, sentence, unit, bounds and example. The reader, the
//  checker, the reference pages, the schema and the help are all made from this declaration.

/// Settings of a plugin or of the daemon. The initial values are the defaults; nothing else states them.
public protocol PluginSettings: Sendable {
  init()
  static var options: [Option<Self>] { get }
}

extension PluginSettings {
  /// The options for documentation, with their defaults.
  public static var descriptions: [OptionDescription] {
    let defaults = Self()
    return options.map { $0.describe(defaults) }
  }
}

/// The declaration of one option.
public struct Option<Settings>: Sendable {
  public let name: String
  public var isRequired: Bool { base.isRequired }
  let base: OptionDescription
  let read: @Sendable (YAMLNode, OptionContext, inout Settings) -> Void
  private let defaultText: @Sendable (Settings) -> String?

  init(
    base: OptionDescription, read: @escaping @Sendable (YAMLNode, OptionContext, inout Settings) -> Void,
    defaultText: @escaping @Sendable (Settings) -> String?
  ) {
    name = base.name
    self.base = base
    self.read = read
    self.defaultText = defaultText
  }

  func describe(_ defaults: Settings) -> OptionDescription {
    var description = base
    if !base.isRequired, base.defaultText == nil { description.defaultText = defaultText(defaults) }
    return description
  }

  /// - Parameters:
  ///   - path: Where the value goes. What stands there in `Settings()` is the default.
  ///   - sentence: What the option does, in one sentence with a full stop.
  ///   - unit: The unit of a bare number.
  ///   - required: The option has no default and must be given.
  ///   - example: A value as it may be written in YAML; shown where the option is missing.
  ///   - defaultText: Words for a default that is worked out at run time.
  ///   - deprecated: What to use instead; the option works and is warned of.
  ///   - check: Returns a complaint about a value that cannot be, such as `must not be empty`.
  public static func option<Value: OptionValue>(
    _ name: String, _ path: any WritableKeyPath<Settings, Value> & Sendable, _ sentence: String,
    unit: OptionUnit? = nil,
    required: Bool = false, example: String? = nil, defaultText: String? = nil, deprecated: String? = nil,
    check: (@Sendable (Value) -> String?)? = nil
  ) -> Option {
    var base = OptionDescription(name: name, typeName: Value.typeName, schema: Value.schema, sentence: sentence)
    base.unit = unit
    base.isRequired = required
    base.example = example
    base.defaultText = defaultText
    base.isDefaultInWords = defaultText != nil
    base.deprecation = deprecated
    return Option(
      base: base,
      read: { node, context, settings in
        guard let value = Value.read(node, context) else { return }
        if let complaint = check?(value) {
          let _: Value? = context.complain(node, complaint)
        } else {
          settings[keyPath: path] = value
        }
      },
      defaultText: { $0[keyPath: path].optionText })
  }

  /// As above, with bounds.
  public static func option<Value: OptionValue & Comparable>(
    _ name: String, _ path: any WritableKeyPath<Settings, Value> & Sendable, _ sentence: String,
    unit: OptionUnit? = nil,
    in range: ClosedRange<Value>, required: Bool = false, example: String? = nil, defaultText: String? = nil,
    deprecated: String? = nil
  ) -> Option {
    let plain = option(
      name, path, sentence, unit: unit, required: required, example: example, defaultText: defaultText,
      deprecated: deprecated)
    return plain.bounded(range) { node, context, settings, rangeText in
      guard let value = Value.read(node, context) else { return }
      guard range.contains(value) else {
        let _: Value? = context.refuse(node, expected: rangeText)
        return
      }
      settings[keyPath: path] = value
    }
  }

  /// As above, for a value that may be absent.
  public static func option<Value: OptionValue & Comparable>(
    _ name: String, _ path: any WritableKeyPath<Settings, Value?> & Sendable, _ sentence: String,
    unit: OptionUnit? = nil,
    in range: ClosedRange<Value>, required: Bool = false, example: String? = nil, defaultText: String? = nil,
    deprecated: String? = nil
  ) -> Option {
    let plain = option(
      name, path, sentence, unit: unit, required: required, example: example, defaultText: defaultText,
      deprecated: deprecated)
    return plain.bounded(range) { node, context, settings, rangeText in
      guard let value = Value?.read(node, context) else { return }
      if let value, !range.contains(value) {
        let _: Value? = context.refuse(node, expected: rangeText)
        return
      }
      settings[keyPath: path] = value
    }
  }

  /// An option that is known only so that its use is refused with advice.
  ///
  /// - Parameter advice: What to write instead: `use 'ssl_enabled'`.
  public static func obsolete(_ name: String, _ advice: String) -> Option {
    var base = OptionDescription(name: name, typeName: "obsolete", schema: .anything, sentence: advice)
    base.isObsolete = true
    base.deprecation = advice
    return Option(base: base, read: { _, _, _ in }, defaultText: { _ in nil })
  }

  /// The same option of settings that lie within larger ones.
  public func lifted<Outer>(into path: any WritableKeyPath<Outer, Settings> & Sendable) -> Option<Outer> {
    let read = read
    let defaultText = defaultText
    return Option<Outer>(
      base: base, read: { node, context, outer in read(node, context, &outer[keyPath: path]) },
      defaultText: { defaultText($0[keyPath: path]) })
  }

  private func bounded<Value: OptionValue>(
    _ range: ClosedRange<Value>, _ read: @escaping @Sendable (YAMLNode, OptionContext, inout Settings, String) -> Void
  ) -> Option {
    var base = base
    let rangeText = "\(range.lowerBound.optionText ?? "") to \(range.upperBound.optionText ?? "")"
    base.range = rangeText
    return Option(
      base: base, read: { node, context, settings in read(node, context, &settings, rangeText) },
      defaultText: defaultText)
  }
}
