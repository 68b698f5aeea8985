//  What several filters of one pipeline own together, such as the tasks of all `aggregate` filters with one `task_id`.

internal import Diagnostics

/// Objects of one pipeline by name. Filters ask for them while they are built.
public final class SharedObjects: Sendable {
  private let objects = Lock<[String: any AnyObject & Sendable]>([:])

  public init() {}

  /// The object of that name, made where it is missing.
  ///
  /// - Parameter name: Begins with the kind of the filter, so that kinds never meet.
  public func object<Object: AnyObject & Sendable>(_ name: String, make: () -> Object) -> Object {
    objects.withLock { objects in
      if let present = objects[name] as? Object { return present }
      let made = make()
      objects[name] = made
      return made
    }
  }
}
