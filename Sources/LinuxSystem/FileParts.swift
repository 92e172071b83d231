// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux

/// Reading and writing parts of files, for callers that go on where a call fails.
extension Descriptor {
    /// Reads up to `count` bytes from an offset on; fewer where fewer are there. The corresponding system call is `pread`.
    public func read(at offset: Int64, upTo count: Int) throws(SystemError) -> [UInt8] {
        var result = 0
        let bytes = [UInt8](unsafeUninitializedCapacity: count) { buffer, filled in
            result = buffer.baseAddress.map { zn_pread(raw, $0, count, off_t(offset)) } ?? 0
            filled = Swift.max(result, 0)
        }
        try check(result, "read")
        return bytes
    }

    /// Writes as much as can be written; how much that was, and why it was not more. The corresponding system call is
    /// `write`.
    public func writePart(_ bytes: [UInt8]) -> (count: Int, failure: Errno?) {
        var done = 0
        while done < bytes.count {
            let result = bytes.withUnsafeBytes { buffer in
                buffer.baseAddress.map { zn_write(raw, $0 + done, buffer.count - done) } ?? 0
            }
            if result < 0 { return (done, Errno(rawValue: CInt(-result))) }
            if result == 0 { return (done, .ioError) }
            done += result
        }
        return (done, nil)
    }

    /// Cuts a file off; `false` where that fails. The corresponding system call is `ftruncate`.
    public func truncate(to size: Int64) -> Bool {
        zn_ftruncate(raw, off_t(size)) >= 0
    }

    /// Sets an extended attribute of a file that may be open for its path only. The corresponding system call is `setxattr`.
    public func set(_ attribute: ExtendedAttribute) throws(SystemError) {
        try check(
            zn_setxattr(procPath, attribute.name, attribute.value, attribute.value.count), "setxattr", attribute.name)
    }

    /// Sets when the content was last changed. The corresponding system call is `utimensat`.
    public func setModified(_ attributes: FileAttributes) throws(SystemError) {
        try check(
            zn_utimensat(raw, "", attributes.seconds, attributes.nanoseconds, atEmptyPath), "utimensat")
    }
}
