//  Ids for events: the id of the queue record that an event came from, so that a replay gives the same ones. Where there
//  is no queue (`sluice try`, tests) an id is made of the event's content.

public import Diagnostics

/// Knows the ids of the records of a batch.
public protocol RecordIDs: AnyObject {
  /// Appends the record's id: 20 characters of base64url.
  func appendID(_ record: Int, to out: inout ByteBuffer)
}

extension EventBatch {
  /// Where ids of records come from; emptying the batch forgets it.
  public var recordIDs: (any RecordIDs)? {
    get { arena.pointee.recordIDs }
    set { arena.pointee.recordIDs = newValue }
  }
}

extension Event {
  /// Appends the event's id: 20 characters of base64url, and `-1`, `-2` … behind them for further events made from one
  /// record. Without a record the 20 characters are made of the fields, a time that is merely the arrival left out.
  public func appendRecordID(to out: inout ByteBuffer) {
    if record >= 0, let ids = arena.pointee.recordIDs {
      ids.appendID(record, to: &out)
    } else {
      appendContentID(to: &out)
    }
    if part > 0 {
      out.append(45)
      out.append(decimal: part)
    }
  }

  private func appendContentID(to out: inout ByteBuffer) {
    var document = ByteBuffer(capacity: 1024)
    let time = FieldReference.timestamp.parts[0].key
    var child = fields.first
    while let member = child {
      child = member.next
      if member.key.equals(time), member.timestamp == arrival { continue }
      appendQuoted(member.key.bytes, to: &document)
      member.appendJSON(to: &document)
    }
    var low: UInt64 = 0x9e37_79b9_7f4a_7c15
    var high: UInt64 = 0xc2b2_ae3d_27d4_eb4f
    for byte in document.bytes {
      low = (low ^ UInt64(byte)) &* 0x0000_0100_0000_01b3
      high = (high &+ UInt64(byte) ^ low >> 29) &* 0xff51_afd7_ed55_8ccd
    }
    low = Event.mix(low ^ high >> 32)
    high = Event.mix(high &+ low)
    let alphabet: StaticString = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    for i in 0..<20 {
      let word = i < 10 ? low : high
      out.append(alphabet.utf8Start[Int(word >> UInt64(i % 10 * 6) & 63)])
    }
  }

  private static func mix(_ value: UInt64) -> UInt64 {
    var x = value
    x = (x ^ x >> 30) &* 0xbf58_476d_1ce4_e5b9
    x = (x ^ x >> 27) &* 0x94d0_49bb_1331_11eb
    return x ^ x >> 31
  }
}
