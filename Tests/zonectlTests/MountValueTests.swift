// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Glibc
import OCI
import Testing
import ZoneRuntime

@testable import zonectl

@Suite struct MountValueTests {
    private func bind(_ target: String, _ options: [String], source: String = "/usr") -> Spec.Mount {
        Spec.Mount(destination: target, type: "bind", source: source, options: ["rbind"] + options)
    }

    private func tmpfs(_ target: String, _ options: [String]) -> Spec.Mount {
        Spec.Mount(
            destination: target, type: "tmpfs", source: "tmpfs", options: ["nosuid", "nodev", "noexec"] + options)
    }

    private func refusal(_ option: String, _ body: () throws(ZoneError) -> Void) {
        do throws(ZoneError) {
            try body()
            Issue.record("was taken")
        } catch {
            #expect(error.code == .invalid || error.code == .unsupported)
            #expect(error.detail.hasPrefix(option), "\(error.detail)")
        }
    }

    @Test func volumes() throws {
        #expect(try MountValue.volume("/usr:/data") == bind("/data", []))
        #expect(try MountValue.volume("/usr://data//x/") == bind("/data/x", []))
        #expect(
            try MountValue.volume("/usr:/data:ro,nosuid,nodev,noexec")
                == bind("/data", ["rro", "nosuid", "nodev", "noexec"]))
        #expect(try MountValue.volume("/usr:/data:Z") == bind("/data", []))
        #expect(try MountValue.volume("/usr:/data:ro,rslave") == bind("/data", ["rro", "rslave"]))
        #expect(try MountValue.volume("/etc/passwd:/p:rw,z") == bind("/p", ["rw"], source: "/etc/passwd"))
    }

    @Test func volumesByName() throws {
        func volume(_ name: String?, _ options: [String]) -> Spec.Mount {
            Spec.Mount(destination: "/data", type: "volume", source: name, options: options)
        }
        #expect(try MountValue.volume("name:/data") == volume("name", []))
        #expect(try MountValue.volume("name:/data/:ro,nocopy,z") == volume("name", ["ro", "nocopy"]))
        #expect(try MountValue.volume("/data") == volume(nil, []))
        #expect(try MountValue.mount("type=volume,src=name,dst=/data,volume-nocopy") == volume("name", ["nocopy"]))
        #expect(try MountValue.mount("source=name,target=/data,readonly") == volume("name", ["ro"]))
        #expect(try MountValue.mount("type=volume,dst=/data") == volume(nil, []))
    }

    @Test func idMaps() throws {
        let one = Spec.IDMapping(containerID: 1000, hostID: 0, size: 1)
        let more = [one, Spec.IDMapping(containerID: 5, hostID: 6, size: 7)]
        for mount in [
            try MountValue.volume("/usr:/data:ro,idmap=uids=1000-0-1;gids=1000-0-1#5-6-7"),
            try MountValue.mount("type=volume,src=v,dst=/data,idmap=uids=1000-0-1;gids=1000-0-1#5-6-7"),
        ] {
            #expect(mount.uidMappings == [one])
            #expect(mount.gidMappings == more)
        }
    }

    @Test func aRelativeSourceIsMadeAbsolute() throws {
        let here = try #require(getcwd(nil, 0))
        defer { free(here) }
        #expect(try MountValue.volume(".:/data").source == "\(String(cString: here))/.")
    }

    @Test(arguments: [
        "", "/usr:", ":/data", ":", "::", "/usr:/data:ro:x", "name", "/", "/proc/x", "name:data",
        "a/b:/data", "-x:/data",
        "name:/data:bad", "name:/data:ro,rw", "name:/data:anonymous", "name:/data:rbind", "name:/proc", "/usr:data",
        "/usr:/", "/usr:/proc", "/usr:/data:idmap=", "/usr:/data:idmap=uids=0-1-1",
        "/usr:/data:idmap=uids=0-1;gids=0-1-1",
        "name:/data:idmap=uids=0-1-1;gids=0-1-0",
        "/usr:/sys/x",
        "/usr:/a/../b", "/missing:/data", "/usr:/data:RO", "/usr:/data:mode=1",
    ])
    func badVolumes(_ text: String) {
        refusal("--volume") { () throws(ZoneError) in _ = try MountValue.volume(text) }
    }

    @Test func mounts() throws {
        #expect(try MountValue.mount("type=bind,src=/usr,dst=/data") == bind("/data", []))
        #expect(try MountValue.mount("source=/usr,target=/data,readonly") == bind("/data", ["rro"]))
        #expect(
            try MountValue.mount("dst=/data,src=/usr,ro=true,bind-propagation=rprivate")
                == bind("/data", ["rro", "rprivate"]))
        #expect(try MountValue.mount("dst=/data,src=/usr,bind-propagation=rshared") == bind("/data", ["rshared"]))
        #expect(try MountValue.mount("destination=/data,src=/usr,readonly=false") == bind("/data", ["rw"]))
        #expect(
            try MountValue.mount("type=tmpfs,dst=/t,tmpfs-size=64M,tmpfs-mode=1777,ro")
                == tmpfs("/t", ["ro", "size=67108864", "mode=1777"]))
    }

    @Test(arguments: [
        "", ",", "type=bind", "type=bind,src=/usr", "type=bind,dst=/data", "type=bind,src=,dst=/data",
        "src=/usr,dst=/data,",
        "src=/usr,dst=/data,nope", "src=/usr,dst=/data,readonly=maybe", "type=volume,src=x/y,dst=/data",
        "type=volume,src=,dst=/data", "type=volume,src=x,dst=/data,tmpfs-size=1M", "type=volume,src=/usr,dst=/data",
        "type=bind,src=/usr,dst=/data,volume-nocopy", "type=tmpfs,dst=/t,idmap=uids=0-1-1;gids=0-1-1",
        "type=tmpfs,src=/usr,dst=/t",
        "type=bind,src=/usr,dst=/data,tmpfs-size=1M", "type=tmpfs,dst=/t,tmpfs-size=big",
        "type=tmpfs,dst=/t,tmpfs-mode=9",
        "src=/missing,dst=/data", "src=/usr,dst=/proc", "src=/usr,dst=relative", "type=tmpfs",
        "src=/usr,dst=/d,bind-propagation=unbindable",
    ])
    func badMounts(_ text: String) {
        refusal("--mount") { () throws(ZoneError) in _ = try MountValue.mount(text) }
    }

    @Test(
        arguments: [
            ("/t", []), ("/t:", []), ("/t:size=1k", ["size=1024"]), ("/t:size=50%", ["size=50%"]),
            ("/t:exec,mode=0700", ["exec", "mode=0700"]),
            ("/t:uid=5,gid=6,nr_inodes=7", ["uid=5", "gid=6", "nr_inodes=7"]),
            ("/run:rw,suid,dev,noatime", ["rw", "suid", "dev", "noatime"]),
        ] as [(String, [String])])
    func tmpfsOptions(_ text: String, _ options: [String]) throws {
        let target = String(text.prefix { $0 != ":" })
        #expect(try MountValue.tmpfs(text) == tmpfs(target, options))
    }

    @Test(arguments: [
        "", ":", "t", "/", "/proc/x", "/t:size=0", "/t:size=-1", "/t:size=", "/t:size", "/t:size=101%", "/t:size=0%",
        "/t:mode=8",
        "/t:mode=10000", "/t:mode=-1", "/t:uid=x", "/t:gid=-1", "/t:nr_inodes=", "/t:huge=always", "/t:ro=1", "/t:=",
        "/t:=x",
    ])
    func badTmpfs(_ text: String) {
        refusal("--tmpfs") { () throws(ZoneError) in _ = try MountValue.tmpfs(text) }
    }
}
